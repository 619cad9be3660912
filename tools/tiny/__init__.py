"""The tiny Dream: the small world that it knows, the texts that it was trained on, its training and its scores."""
