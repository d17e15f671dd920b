"""Pages and tables made from a run folder, never from a live run."""
