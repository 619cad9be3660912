"""The reference's own way from masks to text, and what an artifact would have done at each of its steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from dream_edge_runtime.arrays import BoolArray, FloatArray, IntArray
from dream_edge_runtime.generation.canvas import Canvas, Draft
from dream_edge_runtime.generation.config import GenerationConfig
from dream_edge_runtime.generation.kv_cache import NoCache
from dream_edge_runtime.generation.logit_bias import apply_biases
from dream_edge_runtime.generation.loop import SequencePlan, denoise
from dream_edge_runtime.generation.reveal.scheduled import Origin
from dream_edge_runtime.generation.schedule import BlockStep
from dream_edge_runtime.generation.strategies import create_biases, create_reveal, create_sampler, plan_blocks
from dream_edge_runtime.inference.network import Network

from ..errors import NoData
from ..texts.read import Passage

AfterPass = Callable[[], object]
"""Called after each pass."""


def nothing() -> None:
    """Do nothing after a pass."""


_LOGITS_AT_ONCE = 1 << 27  # 512 MB of logits a pass


@dataclass(frozen=True)
class Unmasking:
    """How one canvas was filled.

    Attributes:
        ids: [length] the canvas before the first step: the opening, then masks.
        start: where the masks begin.
        positions, tokens, steps: [commitments] which position became which token at which step (from 0), in the order
            in which they were settled.
        probability: [commitments] of the tokens, as the network that settled them saw it.
    """

    ids: IntArray
    start: int
    positions: IntArray
    tokens: IntArray
    steps: IntArray
    probability: FloatArray

    @property
    def length(self) -> int:
        """How many positions are filled."""
        return len(self.ids) - self.start

    def canvas(self, step: int) -> IntArray:
        """The ids before `step`."""
        ids, settled = self.ids.copy(), self.steps < step
        ids[self.positions[settled]] = self.tokens[settled]
        return ids

    @property
    def final(self) -> IntArray:
        """The ids at the end."""
        return self.canvas(int(self.steps.max(initial=-1)) + 1)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "ids": self.ids.tolist(),
            "start": self.start,
            "positions": self.positions.tolist(),
            "tokens": self.tokens.tolist(),
            "steps": self.steps.tolist(),
            "probability": [round(value, 6) for value in self.probability.tolist()],
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Unmasking:
        """The inverse of `to_dict`; ValueError, TypeError or KeyError unless a loop could have made it."""
        ids, positions, tokens, steps = (
            np.array(document[name], np.int64) for name in ("ids", "positions", "tokens", "steps")
        )
        start, probability = document["start"], np.array(document["probability"], np.float32)
        shapes = {each.shape for each in (positions, tokens, steps, probability)}
        if ids.ndim != 1 or shapes != {(len(positions),)}:
            raise ValueError("its commitments are not lists of one length")
        if type(start) is not int or not 0 < start < len(ids) or (steps < 0).any():
            raise ValueError("its canvas has nothing to see or nothing to fill")
        if len({*positions.tolist()} & {*range(start, len(ids))}) != len(positions):
            raise ValueError("a position is not masked, or settled twice")
        return cls(ids, start, positions, tokens, steps, probability)


@dataclass(frozen=True)
class Trajectory:
    """The paths of several canvases, all filled by the same settings: the official loop, greedy."""

    config: GenerationConfig
    paths: tuple[Unmasking, ...]

    @property
    def begun(self) -> list[Passage]:
        """The canvases before the first step: what comes after `start` is masked."""
        return [Passage(path.ids, path.start) for path in self.paths]

    def steps(self, path: Unmasking) -> int:
        """Denoising steps of `path`: those of the configuration, or one a token."""
        return self.config.steps or path.length

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"config": asdict(self.config), "paths": [path.to_dict() for path in self.paths]}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Trajectory:
        """The inverse of `to_dict`.

        Raises:
            KeyError, TypeError, ValueError: it was written by something else.
        """
        return cls(
            GenerationConfig(**document["config"]), tuple(Unmasking.from_dict(path) for path in document["paths"])
        )


@dataclass(frozen=True)
class Replay:
    """What an artifact would have settled on each canvas of one path.

    Attributes:
        other_token: [commitments] whether it finds another token most probable where the reference settled one.
        other_position: [commitments] whether it would not have settled that position at that step; None where the
            algorithm draws positions by chance (`origin`), whatever the network thinks.
    """

    other_token: BoolArray
    other_position: BoolArray | None


def official(defaults: GenerationConfig, *, algorithm: str, steps: int | None, seed: int = 0) -> GenerationConfig:
    """The official loop with a checkpoint's `defaults`, greedy, so that only the networks differ."""
    return defaults.replace(algorithm=algorithm, steps=steps, temperature=0.0, seed=seed)


def openings(passages: Sequence[Passage], *, count: int, new_tokens: int, longest: int, seed: int) -> list[Passage]:
    """Up to `count` texts to be continued, drawn from `passages`: what comes after `start` is to be filled.

    The prompt of a text that has one stays visible, of another text the first half. At most `new_tokens` are filled,
    and at most `longest` positions are on a canvas: of a longer prompt the end is kept.

    Raises:
        NoData: no passage has two tokens.
    """
    rng = np.random.default_rng(seed)
    usable = [each for each in passages if len(each.ids) > 1]
    if not usable:
        raise NoData("data", "no text has two tokens, one to see and one to fill")
    found = []
    for index in rng.permutation(len(usable))[:count]:
        passage = usable[index]
        start = passage.start or (len(passage.ids) + 1) // 2
        end = start + min(new_tokens, len(passage.ids) - start, longest - 1)
        begin = max(0, end - longest)
        found.append(Passage(passage.ids[begin:end], start - begin))
    return found


def record(
    network: Network,
    begun: Sequence[Passage],
    config: GenerationConfig,
    *,
    after_pass: AfterPass = nothing,
    rows_at_once: int | None = None,
) -> Trajectory:
    """Fill every canvas by the runtime's own loop and remember each commitment.

    A network that is read anew for each pass is asked `steps` times in all where `rows_at_once` holds every masked
    position of all canvases; None = as many as make 512 MB of logits.
    """
    paths: list[Unmasking] = []
    batches = _batches(begun, rows_at_once or _LOGITS_AT_ONCE // network.config.vocab_size)
    for batch in batches:
        canvas = Canvas([_draft(each, network) for each in batch], *_ids_of(network))
        openings_ids = [canvas.sequence(row) for row in range(len(batch))]
        settled: list[list[tuple[int, int, int, float]]] = [[] for _ in batch]
        plans = _plan(network, config, canvas, first=len(paths))
        changes = denoise(NoCache(network), canvas, create_sampler(config), plans, network.config.vocab_size)
        for step, change in enumerate(changes):
            for revealed in change:
                tokens = canvas.sequence(revealed.row)[revealed.positions]
                settled[revealed.row] += [
                    (int(position), int(token), step, float(probability))
                    for position, token, probability in zip(
                        revealed.positions, tokens, revealed.probability, strict=True
                    )
                ]
            after_pass()
        paths += [_path(ids, each.start, found) for ids, each, found in zip(openings_ids, batch, settled, strict=True)]
    return Trajectory(config, tuple(paths))


def replay(network: Network, trajectory: Trajectory, *, after_pass: AfterPass = nothing) -> tuple[Replay, ...]:
    """Show `network` every canvas that the reference saw on its way, and see what it would have settled there."""
    config = trajectory.config
    batches = _batches(trajectory.begun, _LOGITS_AT_ONCE // network.config.vocab_size)
    found: list[Replay] = []
    for batch in batches:
        paths = trajectory.paths[len(found) : len(found) + len(batch)]
        canvas = Canvas([_draft(each, network) for each in batch], *_ids_of(network))
        plans = _plan(network, config, canvas, first=len(found))
        seen = [_Seen.nothing(path) for path in paths]
        for step in range(_steps(config, batch)):
            _judge(network, config, canvas, plans, paths, seen, step)
            after_pass()
        by_chance = isinstance(create_reveal(config), Origin)
        found += [Replay(each.other_token, None if by_chance else each.other_position) for each in seen]
    return tuple(found)


@dataclass(frozen=True)
class _Seen:
    """A replay while it is made."""

    other_token: BoolArray
    other_position: BoolArray

    @classmethod
    def nothing(cls, path: Unmasking) -> _Seen:
        return cls(np.zeros(len(path.steps), bool), np.zeros(len(path.steps), bool))


def _judge(
    network: Network,
    config: GenerationConfig,
    canvas: Canvas,
    plans: Sequence[SequencePlan],
    paths: Sequence[Unmasking],
    seen: Sequence[_Seen],
    step: int,
) -> None:
    """One step of the loop, except that the canvas then gets what the reference settled."""
    due = {row: np.flatnonzero(path.steps == step) for row, path in enumerate(paths)}
    block_steps = {
        row: block_step for row, plan in enumerate(plans) if (block_step := plan.blocks.next(canvas.masked[row]))
    }
    asked = {
        row: _asked(block_step, canvas, row, plans[row], paths[row].positions[due[row]])
        for row, block_step in block_steps.items()
    }
    asked = {row: positions for row, positions in asked.items() if positions.size}
    if not asked:
        return
    draw = create_sampler(config)
    for row, rows in NoCache(network).compute(canvas, block_steps, asked, draw.temperature, None).items():
        path, plan, commitments, timestep = paths[row], plans[row], due[row], block_steps[row].timestep
        proposal = draw.propose(apply_biases(rows, plan.biases, canvas, row, timestep, draw.temperature), plan.draws)
        chosen = plan.reveal.choose(proposal, rows, asked[row], timestep, plan.draws)
        positions = canvas.first[row] + path.positions[commitments]
        proposed = proposal.tokens[np.searchsorted(asked[row], positions)]
        seen[row].other_token[commitments] = proposed != path.tokens[commitments]
        seen[row].other_position[commitments] = ~np.isin(positions, asked[row][chosen])
        canvas.reveal(row, positions, path.tokens[commitments])


def _asked(block_step: BlockStep, canvas: Canvas, row: int, plan: SequencePlan, due: IntArray) -> IntArray:
    """The masked positions whose logits matter: those that were settled by chance, or all that could have been."""
    if isinstance(plan.reveal, Origin):
        return np.sort(canvas.first[row] + due)
    return block_step.positions[plan.reveal.ask(len(block_step.positions), block_step.timestep, plan.draws)]


def _plan(network: Network, config: GenerationConfig, canvas: Canvas, first: int) -> list[SequencePlan]:
    """Plan the official loop. The draws of a sequence go by its place among all, not in its batch."""
    schedules, biases = plan_blocks(config, canvas), create_biases(config, network.config)
    return [
        SequencePlan(
            blocks, create_reveal(config), np.random.default_rng([config.seed or 0, first + row]), biases=biases
        )
        for row, blocks in enumerate(schedules)
    ]


def pass_count(config: GenerationConfig, begun: Sequence[Passage], vocab_size: int) -> int:
    """How many passes `record` and `replay` make at most, unless told how many rows to ask for at once."""
    return sum(_steps(config, batch) for batch in _batches(begun, _LOGITS_AT_ONCE // vocab_size))


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


def _steps(config: GenerationConfig, batch: Sequence[Passage]) -> int:
    return config.steps or max(each.maskable for each in batch)


def _draft(opening: Passage, network: Network) -> Draft:
    parts: list[list[int] | int] = [opening.ids[: opening.start].tolist(), opening.maskable]
    return Draft.of(parts, network.config.mask_token_id)


def _ids_of(network: Network) -> tuple[int, int, int]:
    return network.config.mask_token_id, network.config.pad_token_id, network.config.shift


def _path(ids: IntArray, start: int, settled: Sequence[tuple[int, int, int, float]]) -> Unmasking:
    positions, tokens, steps = (np.array([each[index] for each in settled], np.int64) for index in range(3))
    return Unmasking(ids, start, positions, tokens, steps, np.array([each[3] for each in settled], np.float32))
