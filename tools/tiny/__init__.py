"""The tiny networks: the small world that they know, the texts that they were trained on, training and scores."""
