"""The experiments of the Net-Trim paper, on the sample models (``make paper``, docs/paper.md)."""
