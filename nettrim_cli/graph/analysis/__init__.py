"""What the graph tells of errors: gains, differences, sizes."""
