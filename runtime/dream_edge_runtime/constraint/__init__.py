"""Texts that must match: patterns, the automata that read them, and what they leave possible on a canvas."""
