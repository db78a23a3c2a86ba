"""The ONNX world: the only wing that sees protobuf."""
