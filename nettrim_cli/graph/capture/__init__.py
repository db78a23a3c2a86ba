"""What runs to record the inputs and outputs of layers."""
