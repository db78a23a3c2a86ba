"""What the graph tells of errors: importance, gains, differences, sizes."""
