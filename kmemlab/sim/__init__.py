"""Floor 1: state that journals itself. Knows nothing of Linux."""
