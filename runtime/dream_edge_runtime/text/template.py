"""Texts with holes: "The [[2]] sat." has one hole of two tokens. And with drafts, which stand where they are likely."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import InvalidOption, InvalidTemplate

_HOLE = re.compile(r"\[\[([^\[\]]*)\]\]")
_LARGEST = 1 << 20


@dataclass(frozen=True)
class Hole:
    """A place for `size` tokens in a text, whose own text may have to match: be JSON that is valid under `json_schema`
    (True: any object), what `regex` matches, or one of `choices`. Where it takes the place of words, `instead_of`, the
    result tells what has changed.

    Raises:
        InvalidTemplate: an impossible size.
    """

    size: int
    json_schema: Mapping[str, Any] | bool | None = field(default=None, kw_only=True)
    regex: str | None = field(default=None, kw_only=True)
    choices: Sequence[str] | None = field(default=None, kw_only=True)
    instead_of: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if not isinstance(self.instead_of, str | None):
            raise InvalidTemplate(f"instead_of is a text, not {type(self.instead_of).__name__}")
        if isinstance(self.size, bool) or not isinstance(self.size, int) or not 0 < self.size <= _LARGEST:
            raise InvalidTemplate(f"a hole must have 1 to {_LARGEST} tokens, not {self.size!r:.20}")


@dataclass(frozen=True)
class Draft:
    """A text in which the model writes other tokens where it finds one unlikely; the others stand, and so does their
    number.

    A token is judged while it is masked, by the network's own distribution, beside the likeliest in its place. Tokens
    are masked in `groups`, one after the other; then those that are doubted, all at once, and of these the likeliest
    stand again, one at a pass. What nothing precedes is not predicted, and so not doubted: give `bos`.

    Raises:
        InvalidTemplate: no text.
        InvalidOption: `bound` or `groups` is out of its range.
    """

    text: str
    bound: float = field(default=0.03, kw_only=True)
    """What is less probable than this times the likeliest token in its place is doubted: 0 nothing, 1 all others."""
    groups: int = field(default=4, kw_only=True)
    """Of more, each sees more of the draft; each takes a pass, and with a block-causal model one for every block."""

    def __post_init__(self) -> None:
        if not isinstance(self.text, str) or not self.text:
            raise InvalidTemplate(f"a draft must have a text, not {self.text!r:.20}")
        if isinstance(self.bound, bool) or not isinstance(self.bound, int | float) or not 0 <= self.bound <= 1:
            raise InvalidOption("bound", self.bound, "must lie in [0, 1]")
        if isinstance(self.groups, bool) or not isinstance(self.groups, int) or not 1 <= self.groups <= _LARGEST:
            raise InvalidOption("groups", self.groups, f"must be an integer, 1 to {_LARGEST}")


Template = str | Sequence[str | int | Hole | Draft]
"""A text with holes, or its pieces: texts, in which brackets are brackets, drafts, and holes or just their sizes."""


def parse_template(template: Template) -> list[str | Hole | Draft]:
    """The texts of `template` and its holes and drafts, in order; empty texts are left out.

    Raises:
        InvalidTemplate: neither hole nor draft, or a hole whose size is not a sensible number.
    """
    if isinstance(template, list | tuple):
        pieces = [_read_piece(piece) for piece in template]
    elif isinstance(template, str):  # text, size, text, size, … text
        pieces = [_parse_size(piece) if at % 2 else piece for at, piece in enumerate(_HOLE.split(template))]
    else:
        raise InvalidTemplate(f"a template is a text or a list of pieces, not {type(template).__name__}")
    if all(isinstance(piece, str) for piece in pieces):
        raise InvalidTemplate("the template has no hole")
    return [piece for piece in pieces if piece != ""]


def _read_piece(piece: str | int | Hole | Draft) -> str | Hole | Draft:
    if isinstance(piece, str | Hole | Draft):
        return piece
    if isinstance(piece, bool) or not isinstance(piece, int):
        raise InvalidTemplate(f"a piece is a text, a draft, a hole or its size, not {type(piece).__name__}")
    return Hole(piece)


def _parse_size(digits: str) -> Hole:
    shown = digits if len(digits) <= 20 else f"{digits[:20]}…"
    if not (digits.isascii() and digits.isdecimal()):
        raise InvalidTemplate(f"the hole [[{shown}]] does not name a number of tokens")
    if len(digits) > 7 or not 0 < int(digits) <= _LARGEST:
        raise InvalidTemplate(f"the hole [[{shown}]] must have 1 to {_LARGEST} tokens")
    return Hole(int(digits))
