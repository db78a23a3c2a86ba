"""Hostile models and data files, mutations of files, and runs under faults."""
