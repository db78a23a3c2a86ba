"""Sparse weights in compact form: packed as gaps and values, and expanded again."""
