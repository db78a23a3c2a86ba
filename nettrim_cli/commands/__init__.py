"""One file a command: its options, what it calls, and what it prints."""
