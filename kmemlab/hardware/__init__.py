"""Floor 2: what exists before the kernel: the machine's description and its firmware."""
