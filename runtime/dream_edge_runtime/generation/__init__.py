"""Which text comes out: the unmasking loop and its strategies."""
