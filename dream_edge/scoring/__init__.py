"""What revealing several tokens at once breaks: tasks that an artifact solves at one token a step, and at others."""
