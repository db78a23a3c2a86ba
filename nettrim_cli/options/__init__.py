"""What a command line is made of: click's options from settings, quantities, corrected lines."""
