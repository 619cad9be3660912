"""The report as one HTML page that needs nothing else: no network, no script, no files beside it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from importlib import resources

from . import tables
from .contents import Contents
from .pictures import Picture

POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""What the page may load: nothing. Names and texts of strangers are escaped; this is the second lock."""

LONGEST = 2000
"""Words of a text that are compared; comparing takes the square of it."""

_WORDS = re.compile(r"\s+|\w+|[^\w\s]", re.UNICODE)


@dataclass(frozen=True)
class Piece:
    """Part of a text, and whether the other text has something else there."""

    text: str
    differs: bool


def render_page(contents: Contents, pictures: Sequence[Picture]) -> str:
    """The whole page, from `page.html.j2`, which escapes what it is given. This needs Jinja."""
    from jinja2 import Environment, StrictUndefined

    page = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return page.from_string(read_file("page.html.j2")).render(
        contents=contents,
        comparisons=[entry.comparison for entry in contents.entries],
        pictures=pictures,
        tables=tables,
        mark_differences=mark_differences,
        style=read_file("page.css"),
        policy=POLICY,
    )


def read_file(name: str) -> str:
    """A file of this package."""
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def mark_differences(reference: str, artifact: str) -> tuple[list[Piece], list[Piece]]:
    """Both texts in pieces; those that the other does not have at that place differ."""
    ours, theirs = _WORDS.findall(reference)[:LONGEST], _WORDS.findall(artifact)[:LONGEST]
    matcher = SequenceMatcher(None, ours, theirs, autojunk=False)
    left: list[Piece] = []
    right: list[Piece] = []
    for kind, *(begin, end, start, stop) in matcher.get_opcodes():
        left += [Piece("".join(ours[begin:end]), kind != "equal")] if begin < end else []
        right += [Piece("".join(theirs[start:stop]), kind != "equal")] if start < stop else []
    return left, right
