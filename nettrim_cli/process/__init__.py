"""A run in a process of its own, and what watches over it.  Nothing heavy is imported here."""
