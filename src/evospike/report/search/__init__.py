"""The page of an architecture search: how it went, and what was found."""
