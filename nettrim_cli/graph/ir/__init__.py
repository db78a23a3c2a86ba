"""The graph as nodes and tensors: flattened, ordered, indexed, with ranks and shapes."""
