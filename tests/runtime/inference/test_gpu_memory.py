"""What a model is going to need of a GPU's memory: the arithmetic, for Dream 7B."""

from __future__ import annotations

import math

import pytest

from dream_edge_runtime.format.memory import MemoryEstimate
from dream_edge_runtime.format.recipe import Recipe
from dream_edge_runtime.inference.memory import estimate_gpu_memory

from ..format.test_recipe import DREAM_7B


def estimate(scheme: str, canvas: int, rows: int) -> MemoryEstimate:
    recipe = Recipe.for_scheme(scheme, target="cuda", layers=DREAM_7B.num_hidden_layers)
    return estimate_gpu_memory(DREAM_7B, recipe, canvas=canvas, rows=rows)


@pytest.mark.parametrize("rows", [32, 256])
def test_7b_int4_with_1024_tokens_fits_7_2_gb(rows: int) -> None:
    """CUDA's context, pages and an arena's waste included."""
    assert estimate("int4", 1024, rows).total < 7.2e9


def test_weights_of_7b_int4() -> None:
    """Counted by hand: codes of half a byte (lm_head and embedding: a byte) and fp16 scales of 32 weights, in pages."""

    def pages(size: float) -> int:
        return math.ceil(size / 2**21) * 2**21

    products = [(3584 + 2 * 512) * 3584, 3584 * 3584, 2 * 18944 * 3584, 3584 * 18944]
    layer = sum(pages(count / 2) + (pages(count / 16) if count / 16 > 2**20 else count / 16) for count in products)
    table = 152064 * 3584
    vectors = 4 * (28 * (3 * 3584 + 2 * 512) + 3584)
    expected = 28 * layer + pages(table) + pages(table / 16) + pages(table) + pages(table / 32) + vectors
    assert estimate("int4", 1024, 32).weights == pytest.approx(expected + 0.5e9, rel=1e-6)


def test_all_rows_of_a_long_canvas_are_counted() -> None:
    """Five times the logits in fp32, which is why a step reveals a block at a time."""
    more = estimate("int4", 1024, 1024).working - estimate("int4", 1024, 512).working
    assert more == pytest.approx(1.25 * 20 * 512 * 152064, rel=0.01)


def test_matrices_that_must_be_expanded_cost_a_copy() -> None:
    """NF4 has no product that takes it as it is: one fp16 copy of each size, of qkv, o, gate and up, down."""
    larger = estimate("nf4", 1024, 1).working - estimate("int4", 1024, 1).working
    assert larger == pytest.approx(1.25 * 2 * 3584 * (3584 + 2 * 512 + 3584 + 3 * 18944), rel=0.01)


def test_many_rows_are_tried_in_memory_of_their_own() -> None:
    """The kernels of lm_head, whose codes and scales lie there once more: by hand, for 256 rows of a short canvas."""
    table = 152064 * 3584
    tried = table * (1 + 2 / 16) + 2 * 256 * (152064 + 3584) + 2 * 256 * 152064
    short = estimate("int4", 256, 256).working - estimate("int4", 256, 0).working
    assert short == pytest.approx(max(tried, 1.25 * 20 * 256 * 152064), rel=0.01)


def test_schemes_in_order() -> None:
    totals = [estimate(scheme, 512, 256).total for scheme in ("int4", "mixed", "int8", "fp16")]
    assert totals == sorted(totals)
    assert totals[-1] > 15e9
