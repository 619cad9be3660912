"""What is masked when nobody names texts: built-in ones, or the bundled tiny model's own tasks."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

from ...models import TINY, bundled
from .read import Text, parse_lines, split_paragraphs
from .tiny import tiny_texts

if TYPE_CHECKING:
    from dream_edge_export.checkpoint.checkpoint import Checkpoint


def default_texts(checkpoint: Checkpoint) -> list[Text]:
    """Texts to compare networks on: for the tiny model held-out cases of its tasks, for others `builtin_texts`."""
    return tiny_texts() if is_tiny(checkpoint) else builtin_texts()


def builtin_texts() -> list[Text]:
    """Some forty short texts of many kinds: prose, dialogue, code, arithmetic, lists."""
    return [*split_paragraphs(_read("texts.txt"))]


def calibration_texts() -> list[Text]:
    """Built-in texts and conversations of many kinds, none of which a comparison uses."""
    return [*parse_lines("calibration.jsonl", _read("calibration.jsonl"))]


def is_tiny(checkpoint: Checkpoint) -> bool:
    """Whether `checkpoint` is the tiny model that comes with the package."""
    tiny = bundled(TINY)
    return tiny.is_dir() and checkpoint.path.resolve() == tiny.resolve()


def _read(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
