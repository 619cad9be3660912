"""The report in Markdown, and its short form for a model card."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from . import tables
from .contents import Contents, Entry
from .pictures import Picture
from .tables import Table
from .verdict import thresholds, verdict


def markdown(contents: Contents, drawn: Sequence[Picture]) -> str:
    """Verdicts, pictures (files beside it) and every table."""
    measured = contents.entries[0].comparison
    lines = [f"# What quantization cost: {plain(contents.reference)}", ""]
    for entry in contents.entries:
        found = verdict(entry)
        lines += [f"**{plain(entry.name)}** (loss: {found.grade.name}). {plain(found.text)}", ""]
    if contents.advice:
        advice = contents.advice
        chosen = f"take {plain(advice.chosen)}" if advice.chosen else "none of these fits"
        needed = ", ".join(f"{plain(name)} {size / 1e9:.2f} GB" for name, size in advice.needed.items())
        lines += [f"For {advice.memory / 1e9:.1f} GB of memory: {chosen}. Needed while running: {needed}.", ""]
    for each in drawn:
        lines += [f"![{plain(each.title)}. {plain(each.about)}](pictures/{each.name}.svg)", ""]
    for table in tables.every_table(contents):
        lines += [*_table(table), ""]
    rules = Table("How the verdicts are found", ("loss", "takes", "the artifact"), thresholds())
    lines += [*_table(rules), ""]
    lines += [
        f"{measured.overall.positions} masked positions of {measured.overall.sequences} texts, seed {measured.seed}; "
        f"± is one standard error; written by {plain(contents.producer)}.",
        "",
    ]
    return "\n".join(lines)


def summary(entry: Entry, reference: str) -> str:
    """What a model card says: the verdict and the figures by mask ratio."""
    return "\n".join(
        [
            "## What quantization cost",
            "",
            f"Compared with {plain(reference)} in full precision. {plain(verdict(entry).text)}",
            "",
            *_table(tables.by_mask_ratio(entry)),
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
