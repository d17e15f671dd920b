"""The page of an architecture search: what was found, and its drawing."""
