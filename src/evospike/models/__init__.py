"""Networks as data, the one constructor, and the presets of the literature."""
