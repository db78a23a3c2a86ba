"""What lies on disk: outputs that are whole or absent, temporary files, formats by content."""
