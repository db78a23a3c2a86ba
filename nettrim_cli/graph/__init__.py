"""The ONNX world: the only room that sees protobuf."""
