"""What was done, as plain numbers, and how it is shown."""
