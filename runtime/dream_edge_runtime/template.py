"""Texts with holes: "The [[2]] sat." has one hole of two tokens."""

from __future__ import annotations

import re

from .errors import InvalidTemplate

_HOLE = re.compile(r"\[\[([^\[\]]*)\]\]")
_LARGEST = 1 << 20


def parse_template(template: str) -> list[str | int]:
    """The texts of `template` and, as numbers, the sizes of its holes, in order; empty texts are left out.

    Raises:
        InvalidTemplate: no hole, or one whose size is not a sensible number.
    """
    if not isinstance(template, str):
        raise InvalidTemplate(f"a template is a text, not {type(template).__name__}")
    pieces = _HOLE.split(template)  # text, size, text, size, … text
    if len(pieces) == 1:
        raise InvalidTemplate("the template has no hole")
    return [_size(piece) if number % 2 else piece for number, piece in enumerate(pieces) if number % 2 or piece]


def _size(digits: str) -> int:
    shown = digits if len(digits) <= 20 else f"{digits[:20]}…"
    if not (digits.isascii() and digits.isdecimal()):
        raise InvalidTemplate(f"the hole [[{shown}]] does not name a number of tokens")
    if len(digits) > 7 or not 0 < int(digits) <= _LARGEST:
        raise InvalidTemplate(f"the hole [[{shown}]] must have 1 to {_LARGEST} tokens")
    return int(digits)
