"""Recordings of event cameras: read, checked, framed and cached."""
