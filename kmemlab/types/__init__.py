"""Floor 0: numbers and names."""
