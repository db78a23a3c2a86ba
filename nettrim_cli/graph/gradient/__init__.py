"""Gradients of a network as one ONNX graph, by the rules of the table of ops."""
