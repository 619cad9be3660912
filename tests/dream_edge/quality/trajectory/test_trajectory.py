"""Along the reference's trajectory: what is recorded, what flips, and where decoding freely diverges."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from dream_edge.models import bundled
from dream_edge.quality.errors import NoData
from dream_edge.quality.texts.read import Passage
from dream_edge.quality.trajectory.agreement import TrajectoryFigures, along, first_divergence
from dream_edge.quality.trajectory.path import Replay, Trajectory, Unmasking, draw_openings, official
from dream_edge.quality.trajectory.record import record, replay
from dream_edge_runtime.arrays import BoolArray, IntArray
from dream_edge_runtime.artifact import Artifact
from dream_edge_runtime.generation.config import GenerationConfig
from dream_edge_runtime.text.tokenizer import Tokenizer
from support.networks import FakeNetwork, random_network, tiny_vocabulary
from support.official import EXACT, Official

VOCABULARY = tiny_vocabulary()
MASK, END = VOCABULARY.mask_token_id, VOCABULARY.eos_token_id
BEGUN = [Passage(np.arange(length) % 40, start) for length, start in [(14, 4), (9, 3), (20, 1), (12, 7), (12, 4)]]
CONFIDENT = ("maskgit_plus", "topk_margin", "entropy", "left_to_right")


def perturbed(network: FakeNetwork, amount: float = 0.6) -> FakeNetwork:
    """The same network with noise on its logits that depends on the position and the token."""
    noise = amount * torch.randn(64, VOCABULARY.vocab_size, generator=torch.Generator().manual_seed(9))

    def logits_of(ids: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        at = (valid.cumsum(1) - 1).clamp(min=0)
        return network.logits_of(ids, valid) + noise[at]

    return FakeNetwork(VOCABULARY, logits_of)


def config_of(algorithm: str, steps: int | None = None) -> GenerationConfig:
    return official(GenerationConfig(), algorithm=algorithm, steps=steps, seed=5)


def official_canvases(network: FakeNetwork, begun: Passage, config: GenerationConfig, row: int) -> list[IntArray]:
    """The canvas before every step, and at the end, from the oracle."""
    ids = begun.ids.copy()
    ids[begun.start :] = MASK
    draws = np.random.default_rng([5, row])
    oracle = Official(MASK, config.steps or begun.maskable, alg=config.algorithm)

    def model(x: torch.Tensor, _valid: torch.Tensor | None) -> torch.Tensor:
        return network.logits_of(x, torch.ones_like(x, dtype=torch.bool))

    with torch.inference_mode():
        oracle.sample(model, torch.from_numpy(ids)[None], None, lambda size: torch.from_numpy(draws.random(size)))
    return [ids, *(x[0].numpy() for x in oracle.history)]


@pytest.mark.parametrize("steps", [None, 3, 40])
@pytest.mark.parametrize("algorithm", ["origin", "maskgit_plus", "topk_margin", "entropy"])
def test_recorded_canvases_are_those_of_the_official_loop(algorithm: str, steps: int | None) -> None:
    network, config = random_network(VOCABULARY), config_of(algorithm, steps)
    found = record(network, BEGUN, config)
    for row, (path, begun) in enumerate(zip(found.paths, BEGUN, strict=True)):
        expected = official_canvases(network, begun, config, row)
        for step, canvas in enumerate(expected[:-1]):
            np.testing.assert_array_equal(path.canvas(step), canvas)
        np.testing.assert_array_equal(path.final, expected[-1])


def restated(network: FakeNetwork, path: Unmasking, config: GenerationConfig) -> tuple[BoolArray, BoolArray]:
    """Which commitments of `path` are of another token, and of another position, by one step of the oracle each."""
    steps = config.steps or path.length
    times = EXACT.linspace(config.eps, steps + 1)
    token, position = [], []
    oracle = Official(MASK, steps, alg=config.algorithm)
    for place, ours, step in zip(path.positions.tolist(), path.tokens.tolist(), path.steps.tolist(), strict=True):
        x = torch.from_numpy(path.canvas(step))[None]
        masked = x == MASK
        logits = network.logits_of(x, torch.ones_like(masked))
        logits = torch.cat([logits[:, :1], logits[:, :-1]], dim=1)
        after = oracle._confidence_step(
            x.clone(), logits, masked, times[step], times[step + 1], step == steps - 1, None
        )
        token.append(int(logits[0, place].argmax()) != ours)
        position.append(not bool(masked[0, place] & (after[0, place] != MASK)))
    return np.array(token), np.array(position)


@pytest.mark.parametrize("steps", [None, 4])
@pytest.mark.parametrize("algorithm", ["maskgit_plus", "topk_margin", "entropy"])
def test_flips_of_a_perturbed_network_are_those_counted_plainly(algorithm: str, steps: int | None) -> None:
    network, config = random_network(VOCABULARY), config_of(algorithm, steps)
    other, reference = perturbed(network), record(network, BEGUN, config)
    found = replay(other, reference)
    for path, each in zip(reference.paths, found, strict=True):
        token, position = restated(other, path, config)
        np.testing.assert_array_equal(each.other_token, token)
        np.testing.assert_array_equal(each.other_position, position)
    assert 0 < np.concatenate([each.other_token for each in found]).mean() < 1
    assert any(each.other_position is not None and each.other_position.any() for each in found)


def test_positions_drawn_by_chance_do_not_flip() -> None:
    network, config = random_network(VOCABULARY), config_of("origin", 6)
    other, reference = perturbed(network), record(network, BEGUN, config)
    for path, each in zip(reference.paths, replay(other, reference), strict=True):
        assert each.other_position is None
        np.testing.assert_array_equal(each.other_token, restated(other, path, config_of("maskgit_plus", 6))[0])


@pytest.mark.parametrize("steps", [None, 5])
@pytest.mark.parametrize("algorithm", ["origin", *CONFIDENT])
def test_network_agrees_with_itself(algorithm: str, steps: int | None, tokenizer: Tokenizer) -> None:
    network = random_network(VOCABULARY)
    reference = record(network, BEGUN, config_of(algorithm, steps))
    found = along(reference, replay(network, reference), reference, tokenizer, END)
    assert (found.flips.any.value, found.flips.token.value) == (0, 0)
    assert found.flips.any.count == sum(begun.maskable for begun in BEGUN)
    assert (found.free_run.same_tokens.value, found.free_run.same_texts.value) == (1, 1)
    assert found.free_run.first_divergence == (None,) * len(BEGUN)
    assert found.free_run.median_divergence is None


def test_batches_change_nothing() -> None:
    network, config = random_network(VOCABULARY), config_of("origin", 4)
    together, apart = record(network, BEGUN, config), record(network, BEGUN, config, rows_at_once=1)
    assert together.to_dict() == apart.to_dict()


def test_one_pass_a_step_where_all_go_together() -> None:
    network = random_network(VOCABULARY)
    seen: list[int] = []
    record(network, BEGUN, config_of("entropy", 4), after_pass=lambda: seen.append(network.passes))
    assert network.passes == 4
    assert seen == [1, 2, 3, 4]


def test_trajectory_is_json_and_comes_back() -> None:
    network = random_network(VOCABULARY)
    reference = record(network, BEGUN, config_of("entropy", 4))
    again = Trajectory.from_dict(json.loads(json.dumps(reference.to_dict(), allow_nan=False)))
    assert again.to_dict() == reference.to_dict()
    assert again.config == reference.config
    assert not any(each.other_token.any() for each in replay(network, again))


# --- openings --------------------------------------------------------------------------------------------------------


def test_prompt_stays_visible_and_of_other_texts_the_first_half() -> None:
    given = [Passage(np.arange(10), 6), Passage(np.arange(100, 110), 0), Passage(np.array([7]), 0)]
    found = sorted(draw_openings(given, count=9, new_tokens=99, longest=99, seed=0), key=lambda each: each.ids[0])
    assert [(each.ids.tolist(), each.start) for each in found] == [
        ([*range(10)], 6),
        ([*range(100, 110)], 5),
    ]


def test_long_texts_are_cut_on_both_sides() -> None:
    (found,) = draw_openings([Passage(np.arange(50), 30)], count=1, new_tokens=6, longest=16, seed=0)
    assert found.ids.tolist() == [*range(20, 36)]
    assert found.start == 10


def test_openings_are_drawn_by_seed() -> None:
    given = [Passage(np.arange(index, index + 4), 1) for index in range(30)]

    def drawn(seed: int) -> list[int]:
        return [int(each.ids[0]) for each in draw_openings(given, count=5, new_tokens=4, longest=9, seed=seed)]

    one, again, other = map(drawn, (1, 1, 2))
    assert one == again != other
    assert len(set(one)) == 5


def test_nothing_to_continue_is_refused() -> None:
    with pytest.raises(NoData):
        draw_openings([Passage(np.array([3]), 0)], count=1, new_tokens=4, longest=9, seed=0)


# --- figures ---------------------------------------------------------------------------------------------------------


def path_of(tokens: list[int], steps: list[int], positions: list[int] | None = None) -> Unmasking:
    """A canvas of two given tokens; the commitments in the order of their positions unless `positions` are named."""
    places = np.array(positions or range(2, 2 + len(tokens)))
    ids = np.concatenate([[1, 2], np.full(len(tokens), MASK)])
    return Unmasking(ids, 2, places, np.array(tokens), np.array(steps), np.ones(len(tokens), np.float32))


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (path_of([10, 11, 12], [0, 1, 2]), None),
        (path_of([10, 11, 13], [0, 1, 2]), 3),
        (path_of([10, 12, 11], [0, 1, 2], [2, 4, 3]), 2),  # the same text by another order
        (path_of([12, 11, 10], [0, 1, 2], [4, 3, 2]), 1),
        (path_of([10, 11, 12], [0, 2, 2]), 2),
    ],
)
def test_first_divergence_is_the_first_step_that_settled_something_else(other: Unmasking, expected: int | None) -> None:
    assert first_divergence(path_of([10, 11, 12], [0, 1, 2]), other) == expected


def figures_by_hand(tokenizer: Tokenizer) -> TrajectoryFigures:
    """Two canvases of five tokens, one a step: the first flips twice; decoding freely it ends in another token."""
    config = config_of("entropy")
    reference = Trajectory(config, (path_of([10, 11, 12, 13, 14], [0, 1, 2, 3, 4]),) * 2)
    freely = Trajectory(config, (path_of([10, 11, 12, 13, 15], [0, 1, 2, 3, 4]), reference.paths[1]))
    none = np.zeros(5, bool)
    first = Replay(np.array([0, 1, 0, 0, 0], bool), np.array([0, 1, 0, 1, 0], bool))
    return along(reference, [first, Replay(none, none)], freely, tokenizer, END)


def test_flips_worked_out_by_hand(tokenizer: Tokenizer) -> None:
    found = figures_by_hand(tokenizer)
    assert found.flips.token.value == 1 / 10
    assert found.flips.position is not None
    assert found.flips.position.value == found.flips.any.value == 2 / 10
    assert found.flips.any.error == pytest.approx(0.2)  # shares of 2/5 and 0: s / √2
    assert [part.flips.any.value for part in found.by_step] == [0, 0.5, 0, 0.5, 0]
    assert [part.flips.token.value for part in found.by_position] == [0, 0.5, 0, 0, 0]


def test_free_run_worked_out_by_hand(tokenizer: Tokenizer) -> None:
    free = figures_by_hand(tokenizer).free_run
    assert free.same_tokens.value == 9 / 10
    assert free.same_texts.value == free.diverged.value == 1 / 2
    assert free.first_divergence == (5, None)
    assert free.divergence_histogram == (0, 0, 0, 0, 1)
    assert free.median_divergence is None


def test_figures_are_json_with_the_texts_side_by_side(tokenizer: Tokenizer) -> None:
    document = json.loads(json.dumps(figures_by_hand(tokenizer).to_dict(), allow_nan=False))
    texts = [(each["reference"], each["artifact"], each["diverged"]) for each in document["samples"]]
    assert texts[0][0] != texts[0][1]
    assert texts[0][2] == 5
    assert texts[1][0] == texts[1][1]
    assert document["samples"][0]["opening"] == tokenizer.decode([1, 2])


def test_what_stands_behind_the_end_is_no_text(tokenizer: Tokenizer) -> None:
    """The tokens differ after an end of text; what a user reads does not."""
    one = Trajectory(config_of("entropy"), (path_of([10, END, 12], [0, 1, 2]),))
    other = replace(one, paths=(path_of([10, END, 13], [0, 1, 2]),))
    none = np.zeros(3, bool)
    free = along(one, [Replay(none, none)], other, tokenizer, END).free_run
    assert free.same_tokens.value == 2 / 3
    assert free.same_texts.value == 1


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Artifact.open(bundled("tiny_int8")).tokenizer()
