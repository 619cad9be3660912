"""How fast an artifact runs on this machine, beside what the machine could do. Needs no more than running it does."""
