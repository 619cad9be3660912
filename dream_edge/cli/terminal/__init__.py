"""What the verbs show on a terminal, and what stands in its place in a pipe."""
