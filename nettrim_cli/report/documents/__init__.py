"""What is told of each kind of result."""
