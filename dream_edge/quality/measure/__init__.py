"""How far two sets of predictions are apart, position by position, and the figures made from it."""
