"""A text editor in which Dream rewrites a selection or fills a gap: an example of dream-edge in a desktop program."""
