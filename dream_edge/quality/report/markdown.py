"""The report in Markdown, and its short form for a model card."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .contents import Contents, ReportEntry
from .pictures import Picture
from .tables import Table, by_mask_ratio, every_table


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
    return "\n".join(
        [
            "## What quantization cost",
            "",
            f"Compared with {plain(reference)} in full precision. {plain(entry.verdict.text)}",
            "",
            *_table(by_mask_ratio(entry.comparison)),
            "",
            "KL and ΔELBO in nats; ± is one standard error.",
        ]
    )


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
