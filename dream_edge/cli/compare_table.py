"""The figures of a comparison as people read them in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .compare_tasks import task_lines
from .terminal.io import aligned

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dream_edge.quality import Comparison, Measures, Quantile
    from dream_edge.quality.trajectory.agreement import FlipsAt, Share

PARTS = {0.0: "0–20%", 0.2: "20–40%", 0.4: "40–60%", 0.6: "60–80%", 0.8: "80–100%"}


def table(comparison: Comparison) -> str:
    """The figures of an artifact by mask ratio, then the block that `llama-perplexity` made known."""
    measured = comparison.overall
    title = (
        f"{comparison.artifact} ({comparison.scheme}), {measured.positions} masked positions of {measured.sequences} "
        f"texts, seed {comparison.seed}"
    )
    parts = [
        [title],
        by_mask_ratio(comparison),
        statistics(comparison),
        along_trajectories(comparison),
        task_lines(comparison.tasks),
    ]
    return "\n\n".join("\n".join(part) for part in parts if part)


def by_mask_ratio(comparison: Comparison) -> list[str]:
    """One line for each interval of mask ratios, the overall figures, and those of the noise floor."""
    rows: list[tuple[str, ...]] = [
        ("mask ratio", "KL mean", "median", "p99", "same-top", "RMS Δp", "ΔELBO", "positions")
    ]
    rows += [(f"{part.low:.1f}–{part.high:.1f}", *_line(part.measures)) for part in comparison.bins]
    rows.append(("all", *_line(comparison.overall)))
    if comparison.noise:
        rows.append(("bf16 noise", *_line(comparison.noise.overall)))
    return aligned(rows)


def _line(measures: Measures) -> tuple[str, ...]:
    known = measures.sequences > 1  # one text says nothing about others
    return (
        f"{measures.kl_mean:.6f} ± " + (f"{measures.kl_mean_se:.6f}" if known else "       ?"),
        f"{measures.kl_median:.6f}",
        f"{measures.kl_p99:.5f}",
        f"{measures.same_top:.2%} ± " + (f"{measures.same_top_se:.2%}" if known else "    ?"),
        f"{measures.dp_rms:.3%}",
        f"{measures.delta_elbo:+.4f} ± " + (f"{measures.delta_elbo_se:.4f}" if known else "     ?"),
        f"{measures.positions}",
    )


def statistics(comparison: Comparison) -> list[str]:
    """Every overall figure with its standard error, the noise floor's beside it.

    The names are those of `llama-perplexity --kl-divergence`: Q is the artifact, base the reference.
    """
    columns = [comparison.overall, *([comparison.noise.overall] if comparison.noise else [])]
    heads = [comparison.scheme, *(["bf16 noise"] if comparison.noise else [])]
    sections = [[*_section(measures)] for measures in columns]
    rows: list[tuple[str, ...]] = [("", *heads)]
    for lines in zip(*sections, strict=True):
        name = lines[0][0]
        if not lines[0][1]:
            rows.append(("", *[""] * len(columns)))
        rows.append((name, *(value for _, value in lines)))
    return aligned(rows)


def _section(measures: Measures) -> Iterator[tuple[str, str]]:
    """Names and values; a heading has no value."""
    yield "Perplexity (exp of -ELBO a token)", ""
    yield "Mean PPL(Q)", _plus(measures.ppl_artifact, measures.ppl_artifact * measures.elbo_artifact_se)
    yield "Mean PPL(base)", _plus(measures.ppl_reference, measures.ppl_reference * measures.elbo_reference_se)
    yield "Cor(ln(PPL(Q)), ln(PPL(base)))", _correlation(measures)
    yield "Mean ln(PPL(Q)/PPL(base))", _plus(-measures.delta_elbo, measures.delta_elbo_se)
    yield "Mean PPL(Q)/PPL(base)", _plus(measures.ppl_ratio, measures.ppl_ratio_se)
    yield "KL divergence (nats)", ""
    yield "Mean    KLD", _plus(measures.kl_mean, measures.kl_mean_se)
    yield from ((f"{_place(each)} KLD", _plus(each.value, each.error)) for each in measures.kl_quantiles)
    yield "Probability of the true token", ""
    yield "Mean    Δp", _share(measures.dp_mean, measures.dp_mean_se)
    yield from ((f"{_place(each)} Δp", _share(each.value, each.error)) for each in measures.dp_quantiles)
    yield "RMS     Δp", _share(measures.dp_rms, measures.dp_rms_se)
    yield "Same top p", _share(measures.same_top, measures.same_top_se)


def along_trajectories(comparison: Comparison) -> list[str]:
    """Which commitments of the reference flip, and how far both agree when they decode freely."""
    if not comparison.trajectories:
        return []
    rows: list[tuple[str, ...]] = [
        (
            "along the reference",
            "steps",
            "token flips",
            "position flips",
            "same tokens",
            "same texts",
            "first divergence",
        )
    ]
    parts: list[tuple[str, ...]] = []
    for each in comparison.trajectories:
        free, steps = each.free_run, "a token" if each.steps is None else str(each.steps)
        rows.append(
            (
                each.algorithm,
                steps,
                _rate(each.flips.token),
                "by chance" if each.flips.position is None else _rate(each.flips.position),
                _rate(free.same_tokens),
                _rate(free.same_texts),
                f"{free.diverged.value:.0%} of {each.sequences}, median {free.median_divergence or 'never'}",
            )
        )
        parts += [
            (f"{each.algorithm}, {steps}: {name}", *_by_part(found))
            for name, found in (("by step", each.by_step), ("by position", each.by_position))
        ]
    return [*aligned(rows), "", *aligned([("commitments that flip", *PARTS.values()), *parts])]


def _by_part(found: Sequence[FlipsAt]) -> list[str]:
    rates = {part.low: f"{part.flips.any.value:.2%}" for part in found}
    return [rates.get(low, "–") for low in PARTS]


def _rate(share: Share) -> str:
    return f"{share.value:.2%} ± {share.error:.2%}"


def _place(quantile: Quantile) -> str:
    names: dict[float, str] = {100: "Maximum", 50: "Median", 0: "Minimum"}
    return names.get(quantile.percent, f"{quantile.percent:.1f}%").ljust(7)


def _plus(value: float, error: float | None) -> str:
    if abs(value) >= 1e6:  # the perplexity of a network that has learnt nothing
        return f"{value:.3e}" if error is None else f"{value:.3e} ± {error:.3e}"
    return f"{value:.6f} ± {error:.6f}" if error is not None else f"{value:.6f}           "


def _share(value: float, error: float | None) -> str:
    return f"{value:.3%} ± {error:.3%}" if error is not None else f"{value:.3%}         "


def _correlation(measures: Measures) -> str:
    return "–" if measures.correlation is None else _share(measures.correlation, measures.correlation_se)
