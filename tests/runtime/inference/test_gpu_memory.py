"""What a model is going to need of a GPU's memory: the arithmetic, for Dream 7B."""

from __future__ import annotations

import pytest

from dream_edge_runtime.format.memory import MemoryEstimate
from dream_edge_runtime.format.recipe import Recipe
from dream_edge_runtime.inference.memory import estimate_gpu_memory

from ..format.test_recipe import DREAM_7B


def estimate(scheme: str, canvas: int, rows: int) -> MemoryEstimate:
    formats = Recipe.for_scheme(scheme, target="cuda", layers=DREAM_7B.num_hidden_layers).targets["cuda"]
    return estimate_gpu_memory(DREAM_7B, formats, canvas=canvas, rows=rows)


@pytest.mark.parametrize("rows", [32, 256])
def test_7b_int4_with_1024_tokens_fits_6_6_gb(rows: int) -> None:
    """CUDA's context and an arena's waste included."""
    assert estimate("int4", 1024, rows).total < 6.6e9


def test_weights_of_7b_int4() -> None:
    """Counted by hand: half a byte and a sixteenth for the layers, a byte and a 16th (32nd: embedding) for the rest."""
    layers = 28 * (2 * 3584 * 3584 + 2 * 512 * 3584 + 3 * 3584 * 18944)
    table = 152064 * 3584
    vectors = 4 * (28 * (3 * 3584 + 2 * 512) + 3584)
    expected = layers * (1 / 2 + 1 / 16) + table * (1 + 1 / 16) + table * (1 + 1 / 32) + vectors
    assert estimate("int4", 1024, 32).weights == pytest.approx(expected + 0.5e9, rel=1e-6)


def test_all_rows_of_a_long_canvas_are_counted() -> None:
    """Four times the logits in fp32, which is why a step reveals a block at a time."""
    more = estimate("int4", 1024, 1024).working - estimate("int4", 1024, 512).working
    assert more == pytest.approx(1.25 * 16 * 512 * 152064, rel=0.01)


def test_matrices_that_must_be_expanded_cost_a_copy() -> None:
    """NF4 has no product that takes it as it is: the largest matrix of a layer, gate and up as one, in fp16."""
    larger = estimate("nf4", 1024, 1).working - estimate("int4", 1024, 1).working
    assert larger == pytest.approx(1.25 * 2 * 3584 * 2 * 18944, rel=0.01)


def test_schemes_in_order() -> None:
    totals = [estimate(scheme, 512, 256).total for scheme in ("int4", "mixed", "int8", "fp16")]
    assert totals == sorted(totals)
    assert totals[-1] > 15e9
