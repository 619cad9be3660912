"""Holes that grow and shrink: against DreamOn's loop restated, and what must hold of any canvas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dream_edge import resolve_artifact
from dream_edge_runtime.arrays import IntArray
from dream_edge_runtime.artifact import Artifact
from dream_edge_runtime.errors import InvalidOption
from dream_edge_runtime.generation.canvas import Canvas, MaskedSequence
from dream_edge_runtime.generation.config import GenerationConfig
from dream_edge_runtime.generation.denoising import Denoising, DenoisingRun, Task
from dream_edge_runtime.generation.kv_cache import NoCache
from dream_edge_runtime.generation.length import ElasticHoles
from dream_edge_runtime.generation.loop import SequencePlan, denoise
from dream_edge_runtime.generation.options import RunOptions
from dream_edge_runtime.generation.order import Ranking, TopProbability
from dream_edge_runtime.generation.results import CanvasReader, Step
from dream_edge_runtime.generation.reveal.parallel import ConfidenceThreshold
from dream_edge_runtime.generation.sampling import Greedy
from dream_edge_runtime.generation.schedule import BlockSchedule
from dream_edge_runtime.inference.network import Network
from dream_edge_runtime.model import DreamModel
from dream_edge_runtime.text.tokenizer import Tokenizer
from support.dreamon import infill_plainly
from support.networks import FakeNetwork, random_network, table_network, tiny_vocabulary
from support.remembering import RememberingNetwork

EXPAND = 5
CONFIG = tiny_vocabulary(expand_token_id=EXPAND)
MASK, END = CONFIG.mask_token_id, CONFIG.eos_token_id
PARTS: list[list[int] | int] = [[3, 1, MASK], 3, [4, END, EXPAND], 2, [9]]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Artifact.open(resolve_artifact("tiny")).tokenizer()


def denoising(
    network: Network, tokenizer: Tokenizer, parts: list[list[int] | int] = PARTS, most: int = 12, **options: Any
) -> Denoising:
    sequence = MaskedSequence.of(parts, MASK)
    task = Task(sequence, CanvasReader(tokenizer, 0), names_holes=True, most_hole_tokens=most)
    return Denoising(DenoisingRun(network, [task], GenerationConfig(seed=0, **options), RunOptions(history=True)), task)


def eager(seed: int, *, wide: float, short: float) -> FakeNetwork:
    """A random network that likes to expand and to delete."""
    network = random_network(CONFIG, seed=seed, k=8)
    logits_of = network.logits_of

    def biased(ids: Any, valid: Any) -> Any:
        logits = logits_of(ids, valid)
        logits[..., EXPAND] += wide
        logits[..., END] += short
        logits[..., MASK] -= 50
        return logits

    network.logits_of = biased
    return network


def history_of(denoised: Denoising) -> list[list[int]]:
    return [ids.tolist() for ids in denoised.result().history or ()]


@pytest.mark.parametrize("most", [5, 12])
@pytest.mark.parametrize("likes", [(0.0, 0.0), (5.0, 0.0), (0.0, 5.0), (5.0, 5.0), (30.0, 0.0), (0.0, 30.0)])
@pytest.mark.parametrize("algorithm", ["maskgit_plus", "entropy"])
def test_every_step_is_that_of_a_plain_restatement(
    tokenizer: Tokenizer, algorithm: str, likes: tuple[float, float], most: int
) -> None:
    for seed in range(3):
        network = eager(seed, wide=likes[0], short=likes[1])
        sequence = MaskedSequence.of(PARTS, MASK)
        expected = infill_plainly(network, sequence.ids.tolist(), sequence.masked.tolist(), most, algorithm=algorithm)
        assert history_of(denoising(network, tokenizer, most=most, algorithm=algorithm)) == expected


def test_several_at_a_step_too() -> None:
    """All masks at once; there is room enough, so that the order in which they expand does not matter."""
    for seed in range(5):
        network = eager(seed, wide=3.0, short=3.0)
        sequence = MaskedSequence.of(PARTS, MASK)
        ids, masked = sequence.ids.tolist(), sequence.masked.tolist()
        expected = infill_plainly(network, ids, masked, 10_000, algorithm="maskgit_plus", count=10_000)
        canvas, elastic = Canvas([sequence], MASK, END, shift=1), ElasticHoles(EXPAND, END, 10_000, 20_000)
        reveal = ConfidenceThreshold(ranking=Ranking(TopProbability()), value=1e-9)
        plan = SequencePlan(
            BlockSchedule(sequence.masked, 99, 1e-3), reveal, np.random.default_rng(0), None, (elastic,), elastic
        )
        steps = denoise(NoCache(network), canvas, Greedy(), [plan], CONFIG.vocab_size)
        found = [canvas.sequence(0).tolist() for _ in steps]
        assert found[:6] == expected[:6]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    wide=st.floats(-2, 20),
    short=st.floats(-2, 20),
    most=st.integers(1, 15),
    options=st.fixed_dictionaries(
        {
            "algorithm": st.sampled_from(["origin", "maskgit_plus", "topk_margin", "entropy", "left_to_right"]),
            "threshold": st.none() | st.floats(0.01, 1),
            "block_length": st.none() | st.integers(1, 4),
            "temperature": st.sampled_from([0.0, 1.0]),
        }
    ),
)
def test_given_text_stays_and_holes_are_what_stands_between(
    tokenizer: Tokenizer, seed: int, wide: float, short: float, most: int, options: dict[str, Any]
) -> None:
    steps = list(denoising(eager(seed, wide=wide, short=short), tokenizer, most=most, **options))
    for step in steps:
        assert_consistent(step, max(most, 5))
    assert not steps[-1].masked.any()
    assert steps[-1].progress == 1.0


def assert_consistent(step: Step, most: int) -> None:
    in_hole = np.zeros(len(step.ids), dtype=bool)
    for hole in step.holes:
        in_hole[hole.start : hole.stop] = True
    assert step.ids[~in_hole].tolist() == [token for part in PARTS if not isinstance(part, int) for token in part]
    assert not step.masked[~in_hole].any()
    assert (step.ids[step.masked] == MASK).all()
    assert not np.isin(step.ids[in_hole & ~step.masked], [EXPAND, END]).any()
    assert in_hole.sum() == sum(map(len, step.holes)) <= most
    assert not step.masked[step.revealed].any()
    assert in_hole[step.revealed].all()
    assert step.shown == range(len(step.ids))
    assert len(step.revealed) == len(step.confidence)


def test_steps_tell_where_positions_went(tokenizer: Tokenizer) -> None:
    before = MaskedSequence.of(PARTS, MASK).ids
    changes = 0
    for step in denoising(eager(1, wide=4.0, short=4.0), tokenizer, most=12):
        moved = np.arange(len(before)) if step.moved is None else step.moved
        changes += step.moved is not None
        old = moved >= 0
        settled = old & ~step.masked & ~np.isin(np.arange(len(step.ids)), step.revealed)
        assert (step.ids[settled] == before[moved[settled]]).all()
        assert (step.ids[~old] == MASK).all()
        assert (np.diff(moved[old]) > 0).all()
        before = step.ids
    assert changes > 2


def test_result_tells_the_holes_as_they_became(tokenizer: Tokenizer) -> None:
    result = denoising(eager(2, wide=4.0, short=2.0), tokenizer, most=12).result()
    generated = len(result.token_ids) - 7
    assert result.prompt_tokens == 7
    assert result.new_tokens == generated
    assert len(result.holes) == 2


def test_holes_may_vanish(tokenizer: Tokenizer) -> None:
    result = denoising(eager(0, wide=0.0, short=90.0), tokenizer, [2]).result()
    assert (result.token_ids, result.text, result.holes, result.new_tokens) == ((), "", ("",), 0)


def test_remembered_keys_are_dropped_when_positions_move(tokenizer: Tokenizer) -> None:
    network = Eager(CONFIG)
    found = denoising(network, tokenizer, cache="dual", block_length=4, algorithm="maskgit_plus")
    length, moved, full = 12, True, 0
    for step, active in zip(found, iter(lambda: network.active[-1], None), strict=False):
        if moved:
            assert active == list(range(length))
            full += 1
        length, moved = len(step.ids), step.moved is not None
    assert full > 2
    assert any(len(active) < 7 for active in network.active)


class Eager(RememberingNetwork):
    def logits(self, *arguments: Any) -> Any:
        logits = super().logits(*arguments)
        logits[:, EXPAND] += 5
        logits[:, END] += 4
        return logits


# --- the canvas ------------------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(data=st.data(), lengths=st.lists(st.integers(1, 12), min_size=1, max_size=4))
def test_repeating_moves_whole_positions_and_nothing_else(data: st.DataObject, lengths: list[int]) -> None:
    sequences = [MaskedSequence.of([[row] * length, 2, [7]], MASK) for row, length in enumerate(lengths)]
    canvas = Canvas(sequences, MASK, END, shift=1)
    row = data.draw(st.integers(0, len(lengths) - 1))
    before = [canvas.sequence(each).tolist() for each in range(len(lengths))]
    counts = np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(before[row]), max_size=len(before[row]))))
    old_ids = canvas.ids
    source = canvas.repeat(row, counts.astype(np.int64))
    for each, sequence in enumerate(before):
        found = canvas.sequence(each).tolist()
        expected = sequence
        if each == row:
            expected = [
                token if copy == 0 else MASK
                for token, count in zip(sequence, counts.tolist(), strict=True)
                for copy in range(count)
            ]
            places: IntArray = np.repeat(np.arange(len(sequence)), counts)
            assert [places[hole.start : hole.stop].tolist() for hole in canvas.holes[row]] == [
                [place for place in places.tolist() if place in hole] for hole in sequences[row].holes
            ]
        assert found == expected
        assert canvas.position_ids[each][canvas.valid[each]].tolist() == list(range(len(expected)))
        original = canvas.valid[each] & ~canvas.masked[each]
        assert (canvas.ids[each][original] == old_ids[each][source[each][original]]).all()
    assert not canvas.masked[~canvas.valid].any()
    assert (canvas.ids[~canvas.valid] == END).all()


# --- options ---------------------------------------------------------------------------------------------------------


def test_fixed_holes_never_expand(tokenizer: Tokenizer) -> None:
    model = DreamModel(eager(0, wide=90.0, short=0.0), tokenizer)
    for result in (model.infill("", "", 6, max_hole_tokens=0), model.generate([3, 1], max_new_tokens=6)):
        assert len(result.token_ids[-6:]) == 6
        assert EXPAND not in result.token_ids


def test_the_context_bounds_what_holes_may_become(tokenizer: Tokenizer) -> None:
    model = DreamModel(eager(0, wide=90.0, short=0.0), tokenizer, context=9)
    assert len(model.infill("", "", 6).token_ids) == 9
    assert len(model.infill("", "", 6, max_hole_tokens=7).token_ids) == 7
    assert len(model.infill("", "", 6, max_hole_tokens=2).token_ids) == 6


def test_options_that_contradict_elastic_holes(tokenizer: Tokenizer) -> None:
    model = DreamModel(eager(0, wide=0.0, short=0.0), tokenizer)
    with pytest.raises(InvalidOption, match="max_hole_tokens=0 fixes"):
        model.infill("", "", 3, steps=4)
    assert model.infill("", "", 3, steps=4, max_hole_tokens=0).new_tokens == 3
    fixed = DreamModel(random_network(tiny_vocabulary()), tokenizer)
    with pytest.raises(InvalidOption, match="such as DreamOn"):
        fixed.infill("", "", 3, max_hole_tokens=9)
    assert fixed.infill("", "", 3, max_hole_tokens=0).new_tokens == 3


def test_expanding_and_deleting_come_to_an_end(tokenizer: Tokenizer) -> None:
    """Two masks, of which the first always expands and the second is always deleted."""
    table = np.zeros((40, CONFIG.vocab_size), np.float32)
    table[::2, EXPAND], table[1::2, END] = 20, 20
    result = denoising(table_network(CONFIG, table), tokenizer, [[1, 2], 2], most=4).result()
    assert MASK not in result.token_ids
