"""Modules over time and the weight source they compute with."""
