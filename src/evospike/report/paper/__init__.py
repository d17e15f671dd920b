"""Figures and tables about a run for a paper."""
