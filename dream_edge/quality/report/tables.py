"""The tables of a report as rows of text, once for the page and for Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..measure.figures import Measures
from ..trajectory.agreement import Flips, TrajectoryFigures
from .contents import Contents, Entry, HeatMap

Row = tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """Rows under a heading each; the first column names them, the others are figures."""

    caption: str
    head: Row
    rows: Sequence[Row]


def overview(contents: Contents) -> Table:
    """Every artifact in one line."""
    tasks = any(entry.comparison.tasks for entry in contents.entries)
    head = ("artifact", "scheme", "size", "bits per weight", "mean KL", "same best token", "ΔELBO", "perplexity")
    rows = [
        (
            entry.name,
            entry.comparison.scheme,
            _bytes(entry.size),
            f"{entry.bits:.2f}",
            _plus(entry.comparison.overall.kl_mean, entry.comparison.overall.kl_mean_se, 5),
            _share(entry.comparison.overall.same_top, entry.comparison.overall.same_top_se),
            _plus(entry.comparison.overall.delta_elbo, entry.comparison.overall.delta_elbo_se, 4, sign=True),
            f"× {entry.comparison.overall.ppl_ratio:.4f}",
            *((_solved(entry),) if tasks else ()),
        )
        for entry in contents.entries
    ]
    return Table("All artifacts", (*head, *(("tasks",) if tasks else ())), rows)


def _solved(entry: Entry) -> str:
    return f"{entry.comparison.tasks.overall.artifact:.1%}" if entry.comparison.tasks else "–"


def by_mask_ratio(entry: Entry) -> Table:
    """KL and agreement for each interval of mask ratios."""
    comparison = entry.comparison
    rows = [(f"{part.low:.0%} – {part.high:.0%}", *_line(part.measures)) for part in comparison.bins]
    rows.append(("all", *_line(comparison.overall)))
    if comparison.noise:
        rows.append(("bf16 noise", *_line(comparison.noise.overall)))
    head = ("masked", "mean KL", "median", "99 %", "largest", "same best token", "RMS Δp", "ΔELBO", "positions")
    return Table(f"{entry.name}: by mask ratio", head, rows)


def _line(measured: Measures) -> Row:
    return (
        _plus(measured.kl_mean, measured.kl_mean_se, 5),
        f"{measured.kl_median:.5f}",
        f"{measured.kl_p99:.4f}",
        f"{measured.kl_max:.3f}",
        _share(measured.same_top, measured.same_top_se),
        f"{measured.dp_rms:.2%}",
        _plus(measured.delta_elbo, measured.delta_elbo_se, 4, sign=True),
        f"{measured.positions}",
    )


def tasks(contents: Contents) -> Table:
    """Scores of all artifacts that have them."""
    rows = [
        (
            entry.name,
            line.task,
            f"{line.cases}",
            f"{line.reference:.1%}",
            f"{line.artifact:.1%}",
            f"{100 * (line.artifact - line.reference):+.1f} ± {100 * line.difference_se:.1f}",
            f"{line.p_value:.2f}",
        )
        for entry in contents.entries
        if entry.comparison.tasks
        for line in (*entry.comparison.tasks.tasks, entry.comparison.tasks.overall)
    ]
    head = ("artifact", "task", "cases", "original", "artifact", "difference, points", "p")
    return Table("Tasks: the same cases for both", head, rows)


def trajectories(contents: Contents) -> Table:
    """What flips on the way from masks to text, and how far both agree at the end."""
    rows = [
        (
            entry.name,
            each.algorithm,
            "one a token" if each.steps is None else f"{each.steps}",
            _flipped(each.flips, "token"),
            _flipped(each.flips, "position"),
            _share(each.free_run.same_tokens.value, each.free_run.same_tokens.error),
            _share(each.free_run.same_texts.value, each.free_run.same_texts.error),
            _step(each),
        )
        for entry in contents.entries
        for each in entry.comparison.trajectories
    ]
    head = ("artifact", "algorithm", "steps", "token flips", "position flips")
    return Table(
        "Along the original's own way", (*head, "same tokens at the end", "same texts", "first difference, step"), rows
    )


def _flipped(flips: Flips, which: str) -> str:
    share = flips.token if which == "token" else flips.position
    return "–" if share is None else _share(share.value, share.error)


def _step(figures: TrajectoryFigures) -> str:
    median = figures.free_run.median_divergence
    return "–" if median is None else f"{median:g}"


def flips_by_step(entry: Entry, figures: TrajectoryFigures) -> Table:
    rows = [
        (f"{part.low:.0%} – {part.high:.0%}", _flipped(part.flips, "token"), _flipped(part.flips, "position"))
        for part in figures.by_step
    ]
    return Table(f"{entry.name}, {figures.algorithm}: flips by step", ("steps", "token flips", "position flips"), rows)


def histogram(contents: Contents) -> Table:
    """Quantiles say what the picture of the histogram shows."""
    percents = (50, 90, 95, 99, 99.9, 100)
    rows = [
        (entry.name, *(f"{entry.comparison.overall.kl_quantile(each).value:.2g}" for each in percents))
        for entry in contents.entries
    ]
    return Table("KL of single positions", ("artifact", *(f"{each:g} % below" for each in percents)), rows)


def heat_map(found: HeatMap) -> Table:
    """KL in millionths of a nat."""
    rows = [
        (f"layer {index}", *("–" if value is None else f"{1e6 * value:.0f}" for value in row))
        for index, row in enumerate(found.rows)
    ]
    return Table(f"{found.format}: KL × 10⁶ of each matrix alone", ("", *found.columns), rows)


def every_table(contents: Contents) -> Iterator[Table]:
    """All that there is data for, in the order of the page."""
    yield overview(contents)
    if any(entry.comparison.tasks for entry in contents.entries):
        yield tasks(contents)
    for entry in contents.entries:
        yield by_mask_ratio(entry)
    yield histogram(contents)
    if any(entry.comparison.trajectories for entry in contents.entries):
        yield trajectories(contents)
    for found in contents.heat_maps:
        yield heat_map(found)


def _plus(value: float, error: float, digits: int, *, sign: bool = False) -> str:
    return f"{value:{'+' if sign else ''}.{digits}f} ± {error:.{digits}f}"


def _share(value: float, error: float) -> str:
    return f"{value:.2%} ± {error:.2%}"


def _bytes(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
