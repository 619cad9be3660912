"""Messages that the manual quotes in sentences and tables are those of the errors; `…` stands for what differs."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from support.documents import ROOT, prose

PAGE = ROOT / "docs" / "troubleshooting.md"
SOURCES = sorted(
    path
    for package in ("dream_edge", "runtime/dream_edge_runtime", "export/dream_edge_export")
    for path in (ROOT / package).rglob("*.py")
)
_BLANK = "\0"  # what a message takes from its case


def templates(path: Path) -> list[str]:
    """The texts in a file that are long enough to be messages, `_BLANK` for each part that is filled in."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.JoinedStr):
            parts = [str(part.value) if isinstance(part, ast.Constant) else _BLANK for part in node.values]
            found.append("".join(parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append(node.value)
    return [each for each in found if len(each) > 20]


MESSAGES = [each for path in SOURCES for each in templates(path)]
QUOTED = [
    " ".join(each.split())
    for each in re.findall(r"(?<!`)`([^`]+)`(?!`)", prose(PAGE))
    if len(each.split()) > 4 and not each.startswith(("dream-edge ", "python "))
]


@pytest.mark.parametrize("quoted", QUOTED)
def test_quoted_messages_are_in_the_program(quoted: str) -> None:
    pieces = [piece.strip() for piece in quoted.split("…")]
    pattern = re.compile(".*".join(map(re.escape, filter(None, pieces))), re.DOTALL)
    assert any(pattern.search(message) for message in MESSAGES), quoted


def test_enough_messages_are_quoted() -> None:
    assert len(QUOTED) > 15, QUOTED
