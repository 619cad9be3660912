"""The summary of a comparison in the model card of its artifact, which the manifest does not hash: people edit it."""

from __future__ import annotations

import os
import re
from pathlib import Path

from dream_edge_runtime.artifact import CARD, Artifact

from ..errors import CardNotWritable
from .contents import Entry
from .markdown import summary

BEGIN = "<!-- dream-edge compare: begin; what is between these lines is replaced by the next comparison -->"
END = "<!-- dream-edge compare: end -->"

_SECTION = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END) + r"\n?", re.DOTALL)
_LARGEST = 1 << 22


def update_card(artifact: Artifact, entry: Entry, reference: str) -> Path:
    """Write the summary into README.md, in the place of an earlier one or at the end; gives its path.

    Raises:
        CardNotWritable: the card is a link (a download cache's, say), not text, or the disk says no.
    """
    path = artifact.path / CARD
    if path.is_symlink():
        raise CardNotWritable(path, "it is a link to a file that others may use")
    try:
        card = path.read_text(encoding="utf-8") if path.exists() else ""
        if len(card) > _LARGEST:
            raise CardNotWritable(path, "it is no model card: it has megabytes")
        partial = path.with_name(f".{CARD}.{os.getpid()}.partial")
        try:
            partial.write_text(with_section(card, summary(entry, reference)), encoding="utf-8", newline="\n")
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except UnicodeDecodeError:
        raise CardNotWritable(path, "it is not UTF-8") from None
    except OSError as error:
        if isinstance(error, CardNotWritable):
            raise
        raise CardNotWritable(path, error.strerror or str(error)) from error
    return path


def with_section(card: str, text: str) -> str:
    """`card` with `text` between the marks; all else is as it was."""
    section = f"{BEGIN}\n{text}\n{END}\n"
    if _SECTION.search(card):
        return _SECTION.sub(lambda _: section, card, count=1)
    return f"{card.rstrip()}\n\n{section}" if card.strip() else section
