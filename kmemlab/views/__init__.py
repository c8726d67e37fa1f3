"""Floor 9: frozen snapshots in, text, DOT, SVG and widgets out. Never touches live state."""
