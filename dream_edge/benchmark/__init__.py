"""How fast an artifact runs on this machine, against what the machine could do. Needs no more than running it does."""
