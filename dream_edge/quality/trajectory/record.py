"""Fill canvases as the reference does, and see what an artifact would have done at each of its steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from dream_edge_runtime.arrays import IntArray
from dream_edge_runtime.format.model_config import ModelConfig
from dream_edge_runtime.generation.canvas import Canvas, MaskedSequence
from dream_edge_runtime.generation.config import GenerationConfig
from dream_edge_runtime.generation.kv_cache import NoCache
from dream_edge_runtime.generation.loop import SequencePlan, denoise
from dream_edge_runtime.generation.reveal import Reveal
from dream_edge_runtime.generation.reveal.scheduled import Origin
from dream_edge_runtime.generation.sampling import Proposal, UniformSource
from dream_edge_runtime.generation.schedule import Timestep, number_blocks
from dream_edge_runtime.generation.strategies import (
    align_blocks,
    align_sequences,
    create_biases,
    create_reveal,
    create_sampler,
    plan_blocks,
)
from dream_edge_runtime.inference.network import Network, Rows

from ..texts.read import Passage
from .path import Replay, Trajectory, Unmasking

AfterPass = Callable[[], object]
"""Called after each pass."""


def nothing() -> None:
    """Do nothing after a pass."""


_LOGITS_AT_ONCE = 1 << 27  # 512 MB of logits a pass


def record(
    network: Network,
    begun: Sequence[Passage],
    config: GenerationConfig,
    *,
    after_pass: AfterPass = nothing,
    rows_at_once: int | None = None,
) -> Trajectory:
    """Fill every canvas by the runtime's own loop and remember each commitment.

    A network that is read again for each pass is asked `steps` times in all where `rows_at_once` holds every masked
    position of all canvases; None = as many as make 512 MB of logits.
    """
    paths: list[Unmasking] = []
    for batch in _batches(begun, rows_at_once or _LOGITS_AT_ONCE // network.config.vocab_size):
        canvas, plans, cache = _begin(network, config, batch, first=len(paths))
        openings_ids = [canvas.sequence(row) for row in range(len(batch))]
        settled: list[list[tuple[int, int, int, float]]] = [[] for _ in batch]
        changes = denoise(cache, canvas, create_sampler(config), plans, network.config.vocab_size)
        for step, change in enumerate(changes):
            for revealed in change:
                tokens = canvas.sequence(revealed.row)[revealed.positions]
                made = zip(revealed.positions, tokens, revealed.probability, strict=True)
                settled[revealed.row] += [(int(where), int(token), step, float(sure)) for where, token, sure in made]
            after_pass()
        paths += [_path(ids, each.start, found) for ids, each, found in zip(openings_ids, batch, settled, strict=True)]
    return Trajectory(config, tuple(paths))


def replay(network: Network, trajectory: Trajectory, *, after_pass: AfterPass = nothing) -> tuple[Replay, ...]:
    """Show `network` every canvas that the reference saw on its way, and see what it would have settled there."""
    config, vocab = trajectory.config, network.config.vocab_size
    found: list[_Judge] = []
    for batch in _batches(trajectory.begun, _LOGITS_AT_ONCE // vocab):
        paths = trajectory.paths[len(found) : len(found) + len(batch)]
        canvas, plans, cache = _begin(network, config, batch, first=len(found))
        judges = [
            _Judge(plan.reveal, path, first) for plan, path, first in zip(plans, paths, canvas.first, strict=True)
        ]
        judged = [replace(plan, reveal=judge) for plan, judge in zip(plans, judges, strict=True)]
        for step, _ in enumerate(denoise(cache, canvas, create_sampler(config), judged, vocab)):
            for row, path in enumerate(paths):
                due = path.steps == step
                canvas.reveal(row, canvas.first[row] + path.positions[due], path.tokens[due])
            after_pass()
        found += judges
    return tuple(each.replay for each in found)


class _Judge:
    """Settles the positions that the reference settled along `path`, and remembers what `reveal` would have chosen.

    `first` is where the sequence begins on its canvas.
    """

    def __init__(self, reveal: Reveal, path: Unmasking, first: int) -> None:
        self._reveal, self._path, self._first = reveal, path, first
        self._is_by_chance = isinstance(reveal, Origin)
        self._step = -1
        self._other_token, self._other_position = (np.zeros(len(path.steps), bool) for _ in range(2))

    @property
    def replay(self) -> Replay:
        return Replay(self._other_token, None if self._is_by_chance else self._other_position)

    def ask(self, masked: int, timestep: Timestep, draws: UniformSource) -> IntArray:
        self._step += 1
        if not self._is_by_chance:
            return self._reveal.ask(masked, timestep, draws)
        path = self._path
        settled = path.positions[path.steps < self._step]
        left = np.setdiff1d(np.arange(path.start, len(path.ids)), settled)
        return np.searchsorted(left, np.sort(path.positions[path.steps == self._step]))

    def choose(
        self, proposal: Proposal, rows: Rows, positions: IntArray, timestep: Timestep, draws: UniformSource
    ) -> IntArray:
        due = np.flatnonzero(self._path.steps == self._step)
        chosen = self._reveal.choose(proposal, rows, positions, timestep, draws)
        found = np.searchsorted(positions, self._first + self._path.positions[due])
        self._other_token[due] = proposal.tokens[found] != self._path.tokens[due]
        self._other_position[due] = ~np.isin(found, chosen)
        return found


def _begin(
    network: Network, config: GenerationConfig, batch: Sequence[Passage], first: int
) -> tuple[Canvas, list[SequencePlan], NoCache]:
    """Plan the official loop for a batch. The draws of a sequence go by its place among all, `first` on, not in it."""
    model = network.config
    sequences = [
        MaskedSequence.of([each.ids[: each.start].tolist(), each.maskable], model.mask_token_id) for each in batch
    ]
    canvas = Canvas(sequences, model.mask_token_id, model.pad_token_id, model.shift)
    schedules, biases = plan_blocks(config, canvas, model), create_biases(config, model)
    plans = [
        SequencePlan(
            blocks, create_reveal(config), np.random.default_rng([config.seed or 0, first + row]), biases=biases
        )
        for row, blocks in enumerate(schedules)
    ]
    return canvas, plans, NoCache(network, align_sequences(config, canvas, model))


def pass_count(config: GenerationConfig, begun: Sequence[Passage], model: ModelConfig) -> int:
    """How many passes `record` and `replay` make at most, unless told how many rows to ask for at once."""
    batches = _batches(begun, _LOGITS_AT_ONCE // model.vocab_size)
    return sum(max(_step_count(config, each, model) for each in batch) for batch in batches)


def _step_count(config: GenerationConfig, begun: Passage, model: ModelConfig) -> int:
    block = model.causal_block
    if config.steps is None or block is None:
        return config.steps or begun.maskable
    places = np.arange(begun.start, len(begun.ids)) + align_blocks(config, block, begun.start)
    return config.steps * len(np.unique(number_blocks(places, block, model.shift, config.block_length or block)))


def _batches(begun: Sequence[Passage], rows: int) -> list[list[Passage]]:
    """Those that are denoised together: at most `rows` masks, but for a canvas that has more by itself."""
    batches: list[list[Passage]] = []
    room = 0
    for each in begun:
        if not batches or each.maskable > room:
            batches.append([])
            room = rows
        batches[-1].append(each)
        room -= each.maskable
    return batches


def _path(ids: IntArray, start: int, settled: Sequence[tuple[int, int, int, float]]) -> Unmasking:
    positions, tokens, steps = (np.array([each[index] for each in settled], np.int64) for index in range(3))
    return Unmasking(ids, start, positions, tokens, steps, np.array([each[3] for each in settled], np.float32))
