"""Calibration files made of photographs, tables, text and sound, and looked into."""
