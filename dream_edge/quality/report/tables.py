"""Every table of a comparison as rows of text: once for the terminal, the page and Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import log

from ..comparison import Comparison
from ..measure.figures import Measures, Quantile
from ..sensitivity.effects import HeatMap
from ..tasks import TaskComparison, TaskResult
from ..trajectory.agreement import FlipsAt, Share
from .contents import Contents, ReportEntry
from .verdict import explain_grades

Row = tuple[str, ...]

PARTS = {0.0: "0–20%", 0.2: "20–40%", 0.4: "40–60%", 0.6: "60–80%", 0.8: "80–100%"}


@dataclass(frozen=True)
class Table:
    """Rows under a heading each; the first column names them, the others are figures.

    kind: how a page shows it: "" for figures, "words" for sentences, "heat" for cells that are coloured.
    heat: how strong the colour of each cell is, 0 to 1, [rows][columns after the first].
    """

    caption: str
    head: Row
    rows: Sequence[Row]
    kind: str = ""
    heat: Sequence[Sequence[float]] = ()

    @property
    def lines(self) -> list[Row]:
        """The heading and the rows."""
        return [self.head, *self.rows]


# --- of several artifacts --------------------------------------------------------------------------------------------


def overview(entries: Sequence[ReportEntry]) -> Table:
    """Every artifact in one line."""
    with_tasks = any(entry.comparison.tasks for entry in entries)
    head = ("artifact", "scheme", "size", "bits per weight", "KL mean", "same-top", "ΔELBO", "perplexity")
    rows = []
    for entry in entries:
        measured, tasks = entry.comparison.overall, entry.comparison.tasks
        row = (
            entry.name,
            entry.comparison.scheme,
            f"{entry.size / 1e9:.2f} GB" if entry.size >= 1e9 else f"{entry.size / 1e6:.1f} MB",
            f"{entry.bits:.2f}",
            _plus(measured.kl_mean, measured.kl_mean_se, ".5f"),
            _plus(measured.same_top, measured.same_top_se, ".2%"),
            _plus(measured.delta_elbo, measured.delta_elbo_se, "+.4f"),
            f"× {measured.ppl_ratio:.4f}",
        )
        solved = f"{tasks.overall.artifact:.1%}" if tasks else "–"
        rows.append((*row, solved) if with_tasks else row)
    return Table("All artifacts", (*head, "tasks") if with_tasks else head, rows)


def histogram(comparisons: Sequence[Comparison]) -> Table:
    """Quantiles say what the picture of the histogram shows."""
    percents = (50, 90, 95, 99, 99.9, 100)
    rows = [
        (each.artifact, *(f"{each.overall.kl_quantile(percent).value:.2g}" for percent in percents))
        for each in comparisons
    ]
    return Table("KL of single positions", ("artifact", *(f"{each:g} % below" for each in percents)), rows)


def rules() -> Table:
    """How the verdicts are found."""
    return Table("How the verdicts are found", ("loss", "takes", "the artifact"), explain_grades(), kind="words")


# --- of one artifact -------------------------------------------------------------------------------------------------


def by_mask_ratio(comparison: Comparison) -> Table:
    """One line for each interval of mask ratios, the overall figures, and those of the noise floor."""
    rows = [(f"{part.low:.1f}–{part.high:.1f}", *_measures(part.measures)) for part in comparison.bins]
    rows.append(("all", *_measures(comparison.overall)))
    if comparison.noise:
        rows.append(("bf16 noise", *_measures(comparison.noise.overall)))
    head = ("mask ratio", "KL mean", "median", "p99", "largest", "same-top", "RMS Δp", "ΔELBO", "positions")
    return Table(f"{comparison.artifact}: by mask ratio", head, rows)


def _measures(measures: Measures) -> Row:
    def plus(value: float, error: float, form: str) -> str:  # one text says nothing about others
        return _plus(value, error, form) if measures.sequences > 1 else f"{value:{form}} ± ?"

    return (
        plus(measures.kl_mean, measures.kl_mean_se, ".6f"),
        f"{measures.kl_median:.6f}",
        f"{measures.kl_p99:.5f}",
        f"{measures.kl_max:.5f}",
        plus(measures.same_top, measures.same_top_se, ".2%"),
        f"{measures.dp_rms:.3%}",
        plus(measures.delta_elbo, measures.delta_elbo_se, "+.4f"),
        f"{measures.positions}",
    )


def statistics(comparison: Comparison) -> Table:
    """Every overall figure with its standard error, the noise floor's beside it; a heading has no figures.

    The names are those of `llama-perplexity --kl-divergence`: Q is the artifact, base the reference.
    """
    columns = [comparison.overall, *([comparison.noise.overall] if comparison.noise else [])]
    heads = (comparison.scheme, *(["bf16 noise"] if comparison.noise else []))
    rows: list[Row] = []
    for lines in zip(*map(_statistics, columns), strict=True):
        if not lines[0][1]:
            rows.append(("", *[""] * len(columns)))
        rows.append((lines[0][0], *(value for _, value in lines)))
    return Table(f"{comparison.artifact}: all figures", ("", *heads), rows)


def _statistics(measures: Measures) -> Iterator[tuple[str, str]]:
    yield "Perplexity (exp of -ELBO a token)", ""
    yield "Mean PPL(Q)", _plus(measures.ppl_artifact, measures.ppl_artifact * measures.elbo_artifact_se)
    yield "Mean PPL(base)", _plus(measures.ppl_reference, measures.ppl_reference * measures.elbo_reference_se)
    yield (
        "Cor(ln(PPL(Q)), ln(PPL(base)))",
        "–" if measures.correlation is None else _plus(measures.correlation, measures.correlation_se, ".3%"),
    )
    yield "Mean ln(PPL(Q)/PPL(base))", _plus(-measures.delta_elbo, measures.delta_elbo_se)
    yield "Mean PPL(Q)/PPL(base)", _plus(measures.ppl_ratio, measures.ppl_ratio_se)
    yield "KL divergence (nats)", ""
    yield "Mean    KLD", _plus(measures.kl_mean, measures.kl_mean_se)
    yield from ((f"{_place(each)} KLD", _plus(each.value, each.error)) for each in measures.kl_quantiles)
    yield "Probability of the true token", ""
    yield "Mean    Δp", _plus(measures.dp_mean, measures.dp_mean_se, ".3%")
    yield from ((f"{_place(each)} Δp", _plus(each.value, each.error, ".3%")) for each in measures.dp_quantiles)
    yield "RMS     Δp", _plus(measures.dp_rms, measures.dp_rms_se, ".3%")
    yield "Same top p", _plus(measures.same_top, measures.same_top_se, ".3%")


def trajectories(comparison: Comparison) -> Table:
    """Which commitments of the reference flip, and how far both agree when they decode freely."""
    rows = [
        (
            each.algorithm,
            _steps(each.steps),
            _rate(each.flips.token),
            "by chance" if each.flips.position is None else _rate(each.flips.position),
            _rate(each.free_run.same_tokens),
            _rate(each.free_run.same_texts),
            f"{each.free_run.diverged.value:.0%} of {each.sequences}, "
            f"median {each.free_run.median_divergence or 'never'}",
        )
        for each in comparison.trajectories
    ]
    head = ("steps", "token flips", "position flips", "same tokens", "same texts", "first divergence")
    return Table(f"{comparison.artifact}: along the original's own way", ("along the reference", *head), rows)


def flips_by_part(comparison: Comparison) -> Table:
    """How many commitments flip in each part of the steps, and of the text."""
    rows = [
        (f"{each.algorithm}, {_steps(each.steps)}: {name}", *_by_part(found))
        for each in comparison.trajectories
        for name, found in (("by step", each.by_step), ("by position", each.by_position))
    ]
    return Table(f"{comparison.artifact}: where flips are", ("commitments that flip", *PARTS.values()), rows)


def _by_part(found: Sequence[FlipsAt]) -> list[str]:
    rates = {part.low: f"{part.flips.any.value:.2%}" for part in found}
    return [rates.get(low, "–") for low in PARTS]


def tasks(found: TaskComparison) -> Table:
    """One line for each task, and one for all of them."""
    head = ("task", "reference", "95%", "artifact", "95%", "difference", "lost", "gained", "p", "cases")
    rows = [*map(_task, (*found.tasks, found.overall))]
    return Table(f"{found.artifact}: tasks, the same cases for both", head, rows)


def _task(result: TaskResult) -> Row:
    return (
        result.task,
        f"{result.reference:.1%}",
        _interval(result.reference_interval),
        f"{result.artifact:.1%}",
        _interval(result.artifact_interval),
        f"{100 * result.difference:+.1f} ± {100 * result.difference_se:.1f} points",
        f"{result.lost}",
        f"{result.gained}",
        f"{result.p_value:.2g}",
        f"{result.cases}",
    )


# --- of a checkpoint -------------------------------------------------------------------------------------------------


def heat_map(found: HeatMap) -> Table:
    """KL in millionths of a nat, by layer and matrix; the colour is logarithmic between the least and the most."""
    known = [value for row in found.rows for value in row if value is not None and value > 0]
    low, high = (min(known), max(known)) if known else (1.0, 1.0)

    def heat(value: float | None) -> float:
        if value is None or value <= 0:
            return 0.0
        return 0.05 + 0.9 * (log(value / low) / log(high / low) if high > low else 1.0)

    return Table(
        f"{found.format}: KL in millionths of a nat",
        ("layer", *found.columns[:-1], "whole"),
        [(f"{index}", *map(millionths, row)) for index, row in enumerate(found.rows)],
        kind="heat",
        heat=[[heat(value) for value in row] for row in found.rows],
    )


def millionths(value: float | None) -> str:
    """A KL, or nothing where it was not measured."""
    return "" if value is None else f"{value * 1e6:.1f}"


# --- what there is, and how figures are written ----------------------------------------------------------------------


def every_table(contents: Contents) -> Iterator[Table]:
    """All that there is data for, in the order of the page."""
    comparisons = [entry.comparison for entry in contents.entries]
    yield overview(contents.entries)
    yield from (tasks(each.tasks) for each in comparisons if each.tasks)
    yield from map(by_mask_ratio, comparisons)
    yield histogram(comparisons)
    for each in comparisons:
        if each.trajectories:
            yield from (trajectories(each), flips_by_part(each))
    yield from map(heat_map, contents.heat_maps)
    yield rules()


def _steps(steps: int | None) -> str:
    return "one a token" if steps is None else str(steps)


def _rate(share: Share) -> str:
    return _plus(share.value, share.error, ".2%")


def _place(quantile: Quantile) -> str:
    names: dict[float, str] = {100: "Maximum", 50: "Median", 0: "Minimum"}
    return names.get(quantile.percent, f"{quantile.percent:.1f}%").ljust(7)


def _plus(value: float, error: float | None, form: str = ".6f") -> str:
    """`value` and its standard error; without one there is room for it, so that figures stand below each other."""
    if abs(value) >= 1e6:  # the perplexity of a network that has learnt nothing
        form = ".3e"
    of_error = form.removeprefix("+")
    after = f" ± {0 if error is None else error:{of_error}}"
    return f"{value:{form}}" + (" " * len(after) if error is None else after)


def _interval(bounds: tuple[float, float]) -> str:
    return f"{100 * bounds[0]:.1f}–{100 * bounds[1]:.1f}"
