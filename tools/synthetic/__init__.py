"""Checkpoints that look like Dream's, of any published geometry, with random weights that behave like trained ones."""
