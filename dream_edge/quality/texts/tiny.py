"""Texts for the bundled tiny model: cases of what it has learnt, written by `tools/tiny/texts.py`."""

from __future__ import annotations

from importlib import resources

from .read import Text, parse_lines


def tiny_held_out() -> list[Text]:
    """40 cases of each of its four tasks, none of which it was trained on: Sudoku, Countdown, questions, sentences."""
    return _read("tiny_held_out.jsonl")


def tiny_training() -> list[Text]:
    """64 cases of each of its four tasks such as it was trained on."""
    return _read("tiny_training.jsonl")


def _read(name: str) -> list[Text]:
    return [*parse_lines(name, resources.files(__package__).joinpath(name).read_text(encoding="utf-8"))]
