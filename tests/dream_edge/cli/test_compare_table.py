"""What a comparison prints."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dream_edge.cli.compare import describe
from dream_edge.cli.terminal.table import align
from dream_edge.quality import Comparison
from dream_edge.quality.measure.differences import Differences
from dream_edge.quality.measure.figures import Figures, figures
from dream_edge.quality.report import tables


def comparison(sequences: int = 8, loss: float = 1.0) -> Comparison:
    rng = np.random.default_rng(0)
    drawn = []
    for index in range(sequences):
        kl, near = rng.exponential(0.01, 6), loss + 0.1 * rng.random(6)
        drawn.append((index % 2, Differences(kl, rng.random(6) < 0.9, np.full(6, loss), near)))
    found = figures(drawn, bins=2)
    return Comparison(overall=found.overall, bins=found.bins, artifact="a", scheme="int4", seed=3)


def test_block_has_the_names_people_know_and_the_figures() -> None:
    found = comparison()
    lines = {line[:32].strip(): line[32:].split() for line in align(tables.statistics(found).lines)}
    overall = found.overall
    assert lines["Mean    KLD"] == [f"{overall.kl_mean:.6f}", "±", f"{overall.kl_mean_se:.6f}"]
    assert lines["Maximum KLD"] == [f"{overall.kl_max:.6f}"]
    assert lines["99.9%   KLD"][0] == f"{overall.kl_p999:.6f}"
    assert lines["Mean PPL(Q)/PPL(base)"][0] == f"{overall.ppl_ratio:.6f}"
    assert lines["Mean ln(PPL(Q)/PPL(base))"][0] == f"{-overall.delta_elbo:.6f}"
    assert lines["RMS     Δp"][0] == f"{overall.dp_rms:.3%}"
    assert lines["Same top p"][0] == f"{overall.same_top:.3%}"
    for name in ("Mean PPL(Q)", "Mean PPL(base)", "Cor(ln(PPL(Q)), ln(PPL(base)))", "25.0%   Δp", "Minimum Δp"):
        assert name in lines


def test_noise_floor_stands_beside_the_artifact() -> None:
    found = comparison()
    quiet = replace(found.overall, kl_mean=0.000123)
    both = replace(found, noise=Figures(quiet, ()))
    assert align(tables.by_mask_ratio(both).lines)[-1].startswith("bf16 noise")
    assert next(line for line in align(tables.statistics(both).lines) if line.startswith("Mean    KLD")).count("±") == 2
    assert "0.000123" in align(tables.by_mask_ratio(both).lines)[-1]
    assert len(align(tables.by_mask_ratio(found).lines)) == len(align(tables.by_mask_ratio(both).lines)) - 1


def test_each_mask_ratio_has_its_largest_kl() -> None:
    found = comparison()
    table = tables.by_mask_ratio(found)
    cells = [row[table.head.index("largest")] for row in table.rows]
    assert cells == [f"{each.kl_max:.5f}" for each in (*(part.measures for part in found.bins), found.overall)]


def test_error_of_a_single_text_is_unknown() -> None:
    table = tables.by_mask_ratio(comparison(sequences=2))
    assert "".join(table.rows[0]).count("± ?") == 3
    assert "?" not in align(tables.by_mask_ratio(comparison(sequences=4)).lines)[1]


def test_perplexity_beyond_reading_is_written_in_powers_of_ten() -> None:
    text = describe(comparison(loss=30))
    assert "e+13" in text
    assert max(map(len, text.splitlines())) < 120
