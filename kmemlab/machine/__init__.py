"""Floor 8: the whole machine: start_kernel, commands, captures in and out, invariants."""
