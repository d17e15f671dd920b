"""The training loop, its losses and its checkpoints; it knows no room."""
