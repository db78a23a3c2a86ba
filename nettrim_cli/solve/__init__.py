"""Pure mathematics on numpy arrays: knows nothing of files, models or screens."""
