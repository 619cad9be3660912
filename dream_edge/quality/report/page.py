"""The report as one HTML page that needs nothing else: no network, no script, no files beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from importlib import resources
from math import log

from ..trajectory.agreement import SampleTexts
from . import tables
from .contents import Advice, Contents, HeatMap
from .marking import Piece, marked
from .pictures import Picture
from .tables import Table
from .verdict import thresholds, verdict

POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""What the page may load: nothing. Names and texts of strangers are escaped; this is the second lock."""


def page(contents: Contents, drawn: Sequence[Picture]) -> str:
    """The whole page; `drawn` are the pictures of `contents`."""
    style = resources.files(__package__).joinpath("page.css").read_text(encoding="utf-8")
    title = f"What quantization cost: {contents.reference}"
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f"<title>{escape(title)}</title>",
            f"<style>\n{style}</style>",
            "</head>",
            "<body>",
            "<main>",
            f"<h1>{escape(title)}</h1>",
            *_verdicts(contents),
            *_advice(contents.advice),
            *_section("Overview", _table(tables.overview(contents)), *_named(drawn, "size")),
            *_section("Where it is lost", *_named(drawn, "ratio", "histogram"), *_details(contents)),
            *_tasks(contents),
            *_trajectories(contents, drawn),
            *_samples(contents),
            *_heat_maps(contents.heat_maps),
            *_reading(),
            "</main>",
            *_footer(contents),
            "</body>",
            "</html>",
            "",
        ]
    )


def _verdicts(contents: Contents) -> Iterator[str]:
    yield '<div class="verdicts">'
    for entry in contents.entries:
        found = verdict(entry)
        yield (
            f'<section class="verdict {found.grade.name}"><h2>{escape(entry.name)}</h2>'
            f'<p class="grade">loss: {found.grade.name}</p><p>{escape(found.text)}</p></section>'
        )
    yield "</div>"


def _advice(advice: Advice | None) -> Iterator[str]:
    if advice is None:
        return
    memory = f"{advice.memory / 1e9:.1f} GB"
    chosen = f"take <b>{escape(advice.chosen)}</b>" if advice.chosen else "none of these fits"
    needed = ", ".join(f"{escape(name)} {size / 1e9:.2f} GB" for name, size in advice.needed.items())
    yield f'<p class="advice">For {memory} of memory: {chosen}. Needed while running: {needed}.</p>'


def _section(title: str, *parts: str) -> Iterator[str]:
    yield f"<section><h2>{escape(title)}</h2>"
    yield from parts
    yield "</section>"


def _named(drawn: Sequence[Picture], *names: str) -> list[str]:
    return [_figure(each) for each in drawn if each.name in names]


def _figure(picture: Picture) -> str:
    title, about = f"{picture.name}-title", f"{picture.name}-about"
    opening = f'<svg role="img" aria-labelledby="{title} {about}"'
    names = f'<title id="{title}">{escape(picture.title)}</title><desc id="{about}">{escape(picture.about)}</desc>'
    head, _, rest = picture.svg.partition(">")
    drawing = f"{head.replace('<svg', opening, 1)}>{names}{rest}"
    return f"<figure><figcaption><b>{escape(picture.title)}</b> {escape(picture.about)}</figcaption>{drawing}</figure>"


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in table.head)
    rows = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in row[1:])}</tr>'
        for row in table.rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(table.caption)}"><table>'
        f"<caption>{escape(table.caption)}</caption><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _details(contents: Contents) -> Iterator[str]:
    yield "<details><summary>The figures</summary>"
    for entry in contents.entries:
        yield _table(tables.by_mask_ratio(entry))
    yield _table(tables.histogram(contents))
    yield "</details>"


def _tasks(contents: Contents) -> Iterator[str]:
    if any(entry.comparison.tasks for entry in contents.entries):
        yield from _section("Tasks", _table(tables.tasks(contents)))


def _trajectories(contents: Contents, drawn: Sequence[Picture]) -> Iterator[str]:
    if not any(entry.comparison.trajectories for entry in contents.entries):
        return
    names = [each.name for each in drawn if each.name.startswith("flips-")]
    by_step = [
        _table(tables.flips_by_step(entry, each))
        for entry in contents.entries
        for each in entry.comparison.trajectories
    ]
    about = (
        "<p>A diffusion model settles tokens one after the other and never takes one back. Here the artifact is shown "
        "what the original saw at each step: a flip is a token, or a position, that it would have settled otherwise. "
        "Texts at the end are those of both writing by themselves.</p>"
    )
    figures = f"<details><summary>The figures</summary>{''.join(by_step)}</details>"
    yield from _section(
        "On the way from masks to text", about, *_named(drawn, *names), _table(tables.trajectories(contents)), figures
    )


def _samples(contents: Contents) -> Iterator[str]:
    found = [
        (entry.name, sample)
        for entry in contents.entries
        for figures in entry.comparison.trajectories[:1]
        for sample in figures.samples
    ]
    if found:
        yield from _section("Texts side by side", *(_sample(name, sample) for name, sample in found))


def _sample(name: str, sample: SampleTexts) -> str:
    left, right = marked(sample.reference, sample.artifact)
    same = "the same text" if sample.reference == sample.artifact else "another text"
    where = same if sample.diverged is None else f"{same}; on the way something differs from step {sample.diverged} on"
    return (
        f'<article class="sample"><p class="opening">{escape(sample.opening)}</p>'
        f"<div><h3>original</h3><p>{_marked(left)}</p></div>"
        f"<div><h3>{escape(name)}</h3><p>{_marked(right)}</p></div>"
        f'<p class="note">{where}</p></article>'
    )


def _marked(pieces: Sequence[Piece]) -> str:
    return "".join(f"<mark>{escape(each.text)}</mark>" if each.differs else escape(each.text) for each in pieces)


def _heat_maps(found: Sequence[HeatMap]) -> Iterator[str]:
    if not found:
        return
    about = "<p>Each cell is one matrix rounded alone while all others stay exact: the darker, the more is lost.</p>"
    yield from _section("Which matrices matter", about, *map(_heat_map, found))


def _heat_map(found: HeatMap) -> str:
    """A table whose cells are coloured: it is read as one, and seen as a picture."""
    known = [value for row in found.rows for value in row if value is not None and value > 0]
    low, high = (min(known), max(known)) if known else (1.0, 1.0)
    table = tables.heat_map(found)
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in table.head)
    rows = []
    for cells, values in zip(table.rows, found.rows, strict=True):
        coloured = "".join(
            f'<td style="--heat: {_heat(value, low, high):.0%}">{escape(cell)}</td>'
            for cell, value in zip(cells[1:], values, strict=True)
        )
        rows.append(f'<tr><th scope="row">{escape(cells[0])}</th>{coloured}</tr>')
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(table.caption)}"><table class="heat">'
        f"<caption>{escape(table.caption)}</caption><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody>"
        "</table></div>"
    )


def _heat(value: float | None, low: float, high: float) -> float:
    """How strong the colour is, 0 to 1: logarithmic between the least and the most of the map."""
    if value is None or value <= 0:
        return 0.0
    return 0.05 + 0.9 * (log(value / low) / log(high / low) if high > low else 1.0)


def _reading() -> Iterator[str]:
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(takes)}</td><td>{escape(says)}</td></tr>'
        for name, takes, says in thresholds()
    )
    yield "<section><h2>How to read this</h2>"
    yield (
        "<p>Tokens of held-out texts are hidden, and both networks say what they expect there. <b>KL</b> is how far "
        "the artifact's expectations are from the original's, in nats: 0 is the same, 0.03 is what common 4-bit "
        "formats cost other language models. <b>Same best token</b>: how often both would choose the same. "
        "<b>ΔELBO</b>: how much less likely the texts became, in nats a token. <b>RMS Δp</b>: by how much the "
        "probability of the token that was there moved. ± is one standard error. <b>bf16 noise</b> is the original "
        "with its activations rounded to 16 bits: what lies below it cannot be told apart.</p>"
    )
    yield (
        '<div class="scroll" tabindex="0" role="region" aria-label="How the verdicts are found"><table class="words">'
        '<caption>How the verdicts are found</caption><thead><tr><th scope="col">loss</th><th scope="col">takes</th>'
        f'<th scope="col">the artifact</th></tr></thead><tbody>{rows}</tbody></table></div></section>'
    )


def _footer(contents: Contents) -> Iterator[str]:
    measured = contents.entries[0].comparison
    yield (
        f"<footer><p>{measured.overall.positions} masked positions of {measured.overall.sequences} texts, "
        f"seed {measured.seed}; written by {escape(contents.producer)}.</p></footer>"
    )
