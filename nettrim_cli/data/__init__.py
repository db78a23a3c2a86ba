"""The sample world: the only wing that sees onnxruntime and h5py."""
