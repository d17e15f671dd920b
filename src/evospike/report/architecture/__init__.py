"""The drawing of an architecture, and the same in words: of a searched genome by cells, of any network by blocks."""
