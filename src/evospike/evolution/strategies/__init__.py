"""One search strategy per file."""
