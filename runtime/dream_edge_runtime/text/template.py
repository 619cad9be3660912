"""Texts with holes: "The [[2]] sat." has one hole of two tokens."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..errors import InvalidTemplate

_HOLE = re.compile(r"\[\[([^\[\]]*)\]\]")
_LARGEST = 1 << 20


Template = str | Sequence[str | int]
"""A text with holes, or its pieces: texts, in which brackets are brackets, and the sizes of holes."""


def parse_template(template: Template) -> list[str | int]:
    """The texts of `template` and, as numbers, the sizes of its holes, in order; empty texts are left out.

    Raises:
        InvalidTemplate: no hole, or one whose size is not a sensible number.
    """
    if isinstance(template, list | tuple):
        return _check_pieces(template)
    if not isinstance(template, str):
        raise InvalidTemplate(f"a template is a text or a list of pieces, not {type(template).__name__}")
    pieces = _HOLE.split(template)  # text, size, text, size, … text
    if len(pieces) == 1:
        raise InvalidTemplate("the template has no hole")
    return [_parse_size(piece) if number % 2 else piece for number, piece in enumerate(pieces) if number % 2 or piece]


def _check_pieces(pieces: Sequence[str | int]) -> list[str | int]:
    for piece in pieces:
        if isinstance(piece, bool) or not isinstance(piece, str | int):
            raise InvalidTemplate(f"a piece is a text or the size of a hole, not {type(piece).__name__}")
        if isinstance(piece, int) and not 0 < piece <= _LARGEST:
            raise InvalidTemplate(f"a hole must have 1 to {_LARGEST} tokens, not {piece}")
    if not any(isinstance(piece, int) for piece in pieces):
        raise InvalidTemplate("the template has no hole")
    return [piece for piece in pieces if piece != ""]


def _parse_size(digits: str) -> int:
    shown = digits if len(digits) <= 20 else f"{digits[:20]}…"
    if not (digits.isascii() and digits.isdecimal()):
        raise InvalidTemplate(f"the hole [[{shown}]] does not name a number of tokens")
    if len(digits) > 7 or not 0 < int(digits) <= _LARGEST:
        raise InvalidTemplate(f"the hole [[{shown}]] must have 1 to {_LARGEST} tokens")
    return int(digits)
