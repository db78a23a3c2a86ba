"""File formats of samples, read row by row."""
