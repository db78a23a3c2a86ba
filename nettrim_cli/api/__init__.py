"""nettrim from Python: models and samples in files or in memory."""
