"""A network's kept weights fitted to the outputs of another, all layers together."""
