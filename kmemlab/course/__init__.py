"""Floor 10: notebooks in, notebooks out: build, checks, chapters."""
