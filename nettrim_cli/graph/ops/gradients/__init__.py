"""Vector-Jacobian rules: how the gradient of a node's outputs becomes that of its inputs."""
