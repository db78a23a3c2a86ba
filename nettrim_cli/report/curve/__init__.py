"""How much a model can be pruned: its figures, on the screen and in files."""
