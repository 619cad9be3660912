"""The summary of a comparison in the model card of its artifact, which the manifest does not hash: people edit it."""

from __future__ import annotations

import re
from pathlib import Path

from dream_edge_runtime.artifact import CARD, Artifact
from dream_edge_runtime.errors import NotWritable
from dream_edge_runtime.files.writing import replace_file

from .contents import ReportEntry
from .markdown import summarize

BEGIN = "<!-- dream-edge compare: begin; what is between these lines is replaced by the next comparison -->"
END = "<!-- dream-edge compare: end -->"

_SECTION = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END) + r"\n?", re.DOTALL)
_LARGEST = 1 << 22
_REMEDY = "Copy the artifact to a directory of your own."


def update_card(artifact: Artifact, entry: ReportEntry, reference: str) -> Path:
    """Write the summary into README.md, in the place of an earlier one or at the end; gives its path.

    Raises:
        NotWritable: the card is a link (a download cache's, say), not text, or the disk says no.
    """
    path = artifact.path / CARD
    if path.is_symlink():
        raise NotWritable(path, "it is a link to a file that others may use", _REMEDY)
    try:
        card = path.read_text(encoding="utf-8") if path.exists() else ""
    except UnicodeDecodeError:
        raise NotWritable(path, "it is not UTF-8", _REMEDY) from None
    except OSError as error:
        raise NotWritable(path, error.strerror or str(error), _REMEDY) from error
    if len(card) > _LARGEST:
        raise NotWritable(path, "it is no model card: it has megabytes", _REMEDY)
    with replace_file(path) as file:
        file.write(insert_section(card, summarize(entry, reference)).encode())
    return path


def insert_section(card: str, text: str) -> str:
    """Put `text` between the marks of `card`, which are added where it has none; all else stays."""
    section = f"{BEGIN}\n{text}\n{END}\n"
    if _SECTION.search(card):
        return _SECTION.sub(lambda _: section, card, count=1)
    return f"{card.rstrip()}\n\n{section}" if card.strip() else section
