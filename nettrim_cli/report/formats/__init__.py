"""How documents look in files."""
