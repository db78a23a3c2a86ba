"""Fewer units and lower ranks: layers whose matrices are smaller as they lie."""
