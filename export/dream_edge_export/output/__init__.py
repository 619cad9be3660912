"""The directory in which an artifact is built: locked, filled in order, resumable, put in place in one step."""
