"""The network made sparse: which layers, in what order, how many zeros, to which target."""
