"""Floor 5: gives pages back, found by age. May free, may never allocate."""
