"""Measurements behind docs/; README.md explains the scripts."""
