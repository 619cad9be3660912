"""A checkpoint, read and checked."""
