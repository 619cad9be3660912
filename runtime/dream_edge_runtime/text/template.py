"""Texts with holes: "The [[2]] sat." has one hole of two tokens."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import InvalidTemplate

_HOLE = re.compile(r"\[\[([^\[\]]*)\]\]")
_LARGEST = 1 << 20


@dataclass(frozen=True)
class Hole:
    """A place for `size` tokens in a text, whose own text may have to match: be JSON that is valid under `json_schema`
    (True: any object), what `regex` matches, or one of `choices`.

    Raises:
        InvalidTemplate: an impossible size.
    """

    size: int
    json_schema: Mapping[str, Any] | bool | None = field(default=None, kw_only=True)
    regex: str | None = field(default=None, kw_only=True)
    choices: Sequence[str] | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if isinstance(self.size, bool) or not isinstance(self.size, int) or not 0 < self.size <= _LARGEST:
            raise InvalidTemplate(f"a hole must have 1 to {_LARGEST} tokens, not {self.size!r:.20}")


Template = str | Sequence[str | int | Hole]
"""A text with holes, or its pieces: texts, in which brackets are brackets, and holes or just their sizes."""


def parse_template(template: Template) -> list[str | Hole]:
    """The texts of `template` and its holes, in order; empty texts are left out.

    Raises:
        InvalidTemplate: no hole, or one whose size is not a sensible number.
    """
    if isinstance(template, list | tuple):
        pieces = [_read_piece(piece) for piece in template]
    elif isinstance(template, str):  # text, size, text, size, … text
        pieces = [_parse_size(piece) if at % 2 else piece for at, piece in enumerate(_HOLE.split(template))]
    else:
        raise InvalidTemplate(f"a template is a text or a list of pieces, not {type(template).__name__}")
    if not any(isinstance(piece, Hole) for piece in pieces):
        raise InvalidTemplate("the template has no hole")
    return [piece for piece in pieces if piece != ""]


def _read_piece(piece: str | int | Hole) -> str | Hole:
    if isinstance(piece, str | Hole):
        return piece
    if isinstance(piece, bool) or not isinstance(piece, int):
        raise InvalidTemplate(f"a piece is a text or the size of a hole, not {type(piece).__name__}")
    return Hole(piece)


def _parse_size(digits: str) -> Hole:
    shown = digits if len(digits) <= 20 else f"{digits[:20]}…"
    if not (digits.isascii() and digits.isdecimal()):
        raise InvalidTemplate(f"the hole [[{shown}]] does not name a number of tokens")
    if len(digits) > 7 or not 0 < int(digits) <= _LARGEST:
        raise InvalidTemplate(f"the hole [[{shown}]] must have 1 to {_LARGEST} tokens")
    return Hole(int(digits))
