"""What is masked when nobody names texts: built-in ones, or the bundled tiny model's own tasks."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

from ...models import is_tiny
from .read import Text, parse_lines, split_paragraphs

if TYPE_CHECKING:
    from dream_edge_export.checkpoint.checkpoint import Checkpoint


def default_texts(checkpoint: Checkpoint) -> list[Text]:
    """Texts to compare networks on: for the tiny model held-out cases of its tasks, for others `builtin_texts`."""
    return tiny_held_out() if is_tiny(checkpoint) else builtin_texts()


def builtin_texts() -> list[Text]:
    """Some forty short texts of many kinds: prose, dialogue, code, arithmetic, lists."""
    return [*split_paragraphs(_read("texts.txt"))]


def calibration_texts() -> list[Text]:
    """Built-in texts and conversations of many kinds, none of which a comparison uses."""
    return [*parse_lines("calibration.jsonl", _read("calibration.jsonl"))]


def tiny_held_out() -> list[Text]:
    """40 cases of each of the tiny model's four tasks, none of which it was trained on; `tools/tiny/texts.py` wrote
    them."""
    return [*parse_lines("tiny_held_out.jsonl", _read("tiny_held_out.jsonl"))]


def tiny_training() -> list[Text]:
    """64 cases of each of the tiny model's four tasks such as it was trained on."""
    return [*parse_lines("tiny_training.jsonl", _read("tiny_training.jsonl"))]


def _read(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
