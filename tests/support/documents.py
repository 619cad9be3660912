"""The manual as a reader copies from it: fenced blocks with what is said about them, and commands in running text.

A comment before a fence says what the test is to do with it:

    <!-- not run: needs a GPU -->       its commands are read, and not run
    <!-- slow: two minutes -->          run by `pytest -m slow` only
    <!-- fails -->                      each of its commands ends in an error
    <!-- prints -->                     before ```text: what the block before it printed; `…` stands for anything
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))

_MARK = re.compile(r"<!-- (?P<mark>not run|slow|fails|prints)(?:: (?P<reason>[^>]+?))? -->\s*")
_FENCE = re.compile(r"(?P<indent> *)(?P<fence>`{3,}) *(?P<language>[\w+-]*).*")
_SPAN = re.compile(r"(?<!`)`((?:dream-edge|python) [^`]+?)`(?!`)")


@dataclass(frozen=True)
class Block:
    """What stands between two fences."""

    page: str
    line: int
    """Of the opening fence, from 1."""
    language: str
    text: str
    mark: str = ""
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page, in their order."""
    name, opened, language, collected = page.relative_to(ROOT).as_posix(), 0, "", list[str]()
    marked: re.Match[str] | None = None
    begin: re.Match[str] | None = None
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if begin is not None:
            if line.strip() == begin["fence"]:
                mark, reason = (marked["mark"], marked["reason"] or "") if marked else ("", "")
                yield Block(name, opened, language, "\n".join(collected) + "\n", mark, reason)
                begin = marked = None
            else:
                collected.append(line.removeprefix(begin["indent"]))
        elif found := _FENCE.fullmatch(line):
            begin, opened, language, collected = found, number, found["language"], []
        elif line.strip():
            marked = _MARK.fullmatch(line.strip())
    assert begin is None, f"{name}:{opened}: this fence is not closed"


def prose(page: Path) -> str:
    """The page without its fenced blocks, each replaced by as many empty lines."""
    lines, fence = [], ""
    for line in page.read_text(encoding="utf-8").splitlines():
        found = _FENCE.fullmatch(line)
        lines.append("" if found or fence else line)
        if fence:
            fence = "" if line.strip() == fence else fence
        elif found:
            fence = found["fence"]
    return "\n".join(lines)


def commands_in_prose(page: Path) -> Iterator[tuple[int, str]]:
    """Commands between backticks, and the lines they begin on. They may have placeholders and go over a line's end."""
    text = prose(page)
    for found in _SPAN.finditer(text):
        if "\n\n" not in found[1]:
            yield text.count("\n", 0, found.start()) + 1, " ".join(found[1].split())
