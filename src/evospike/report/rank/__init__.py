"""The page of a ranking of scores."""
