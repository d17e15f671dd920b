"""Data sets, their splits and their augmentation."""
