"""Floor 6: hands memory out."""
