"""How long models take in onnxruntime: fair rounds, robust ratios, profiles, memory."""
