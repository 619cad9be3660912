"""The report in Markdown, and its short form in the model card of an artifact."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from dream_edge_runtime.artifact import CARD, Artifact
from dream_edge_runtime.errors import NotWritable
from dream_edge_runtime.files.writing import replace_file

from .contents import Contents, ReportEntry
from .pictures import Picture
from .tables import Table, by_mask_ratio, every_table

BEGIN = "<!-- dream-edge compare: begin; what is between these lines is replaced by the next comparison -->"
END = "<!-- dream-edge compare: end -->"

_SECTION = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END) + r"\n?", re.DOTALL)
_LARGEST = 1 << 22
_REMEDY = "Copy the artifact to a directory of your own."


def render_markdown(contents: Contents, pictures: Sequence[Picture]) -> str:
    """Verdicts, pictures (files beside it) and every table."""
    lines = [f"# What quantization cost: {plain(contents.reference)}", ""]
    for entry in contents.entries:
        found = entry.verdict
        lines += [f"**{plain(entry.name)}** (loss: {found.grade.name}). {plain(found.text)}", ""]
    if contents.advice:
        lines += [plain(contents.advice.text), ""]
    for each in pictures:
        lines += [f"![{plain(each.title)}. {plain(each.about)}](pictures/{each.name}.svg)", ""]
    for table in every_table(contents):
        lines += [*_table(table), ""]
    written = f"{contents.basis}; ± is one standard error; written by {contents.producer}."
    return "\n".join([*lines, plain(written), ""])


def summarize(entry: ReportEntry, reference: str) -> str:
    """What a model card says: the verdict and the figures by mask ratio."""
    said = f"Compared with {plain(reference)} in full precision. {plain(entry.verdict.text)}"
    table = "\n".join(_table(by_mask_ratio(entry.comparison)))
    return f"## What quantization cost\n\n{said}\n\n{table}\n\nKL and ΔELBO in nats; ± is one standard error."


def _table(table: Table) -> Iterator[str]:
    yield f"**{plain(table.caption)}**"
    yield ""
    yield _row(table.head)
    yield "|---|" + "---:|" * (len(table.head) - 1)
    yield from map(_row, table.rows)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(plain, cells))} |"


def plain(text: str) -> str:
    """`text` as itself, on one line: nothing in it is markup."""
    one_line = " ".join(text.split())
    return "".join(f"\\{letter}" if letter in "\\`*_[]<>|#!" else letter for letter in one_line).replace("&", "&amp;")


def update_card(artifact: Artifact, entry: ReportEntry, reference: str) -> Path:
    """Write the summary into README.md, which the manifest does not hash, in place of an earlier one; gives its path.

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
