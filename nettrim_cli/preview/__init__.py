"""What pruning would give, told before it is done."""
