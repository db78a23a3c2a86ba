"""What tests share: networks, layers, data files, oracles."""
