"""The paper's convex program."""
