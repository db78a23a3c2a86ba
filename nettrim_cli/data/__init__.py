"""The sample world: the only room that sees onnxruntime and h5py."""
