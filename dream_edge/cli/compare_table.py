"""The figures of a comparison as people read them in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .terminal import aligned

if TYPE_CHECKING:
    from dream_edge.quality import Comparison, Measures


def table(comparison: Comparison) -> str:
    """The figures of a comparison by mask ratio, the overall ones last."""
    measured = comparison.overall
    rows: list[tuple[str, ...]] = [("mask ratio", "KL mean", "median", "p99", "same-top", "ΔELBO", "positions")]
    rows += [(f"{part.low:.1f}–{part.high:.1f}", *_figures(part.measures)) for part in comparison.bins]
    rows.append(("all", *_figures(measured)))
    errors = (
        f"± KL {measured.kl_mean_se:.5f}, same-top {measured.same_top_se:.2%}, ΔELBO {measured.delta_elbo_se:.4f} "
        f"({measured.sequences} texts, seed {comparison.seed})"
    )
    return "\n".join([f"{comparison.artifact} ({comparison.scheme})", *aligned(rows), errors])


def _figures(measures: Measures) -> tuple[str, ...]:
    return (
        f"{measures.kl_mean:.5f}",
        f"{measures.kl_median:.5f}",
        f"{measures.kl_p99:.4f}",
        f"{measures.same_top:.2%}",
        f"{measures.delta_elbo:+.4f}",
        f"{measures.positions}",
    )
