"""Layers with weights, and what follows each of them."""
