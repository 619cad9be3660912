"""Trajectories of the reference, kept in a base, and what an artifact does along them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from dream_edge_runtime.errors import DreamEdgeError, MissingExtra
from dream_edge_runtime.generation.config import GenerationConfig
from dream_edge_runtime.inference.network import Network
from dream_edge_runtime.text.tokenizer import Tokenizer

from ..errors import CorruptBase
from ..reference.base import Base
from ..texts.read import Passage
from .agreement import TrajectoryFigures, along
from .record import Progress, Trajectory, pass_count, record, replay

if TYPE_CHECKING:
    from dream_edge_export.checkpoint.checkpoint import Checkpoint

TRAJECTORIES = "trajectories"
"""What they are called in a base."""
TEXTS = 32
NEW_TOKENS = 32
LARGEST_HELD = 1 << 30
"""Bytes of weights in fp32 up to which the reference is held in memory; a larger one is read anew for every pass."""


def is_held(checkpoint: Checkpoint) -> bool:
    """Whether the reference's trajectories are cheap: the network is small enough to stay in memory."""
    return 4 * sum(math.prod(checkpoint.shape(name)) for name in checkpoint.names) <= LARGEST_HELD


def with_trajectories(
    base: Base,
    checkpoint: Checkpoint,
    begun: Sequence[Passage],
    configs: Sequence[GenerationConfig],
    *,
    progress: Progress = lambda _done, _all: None,
) -> Base:
    """`base` with the trajectory of its own `checkpoint` from the same openings by each of `configs` kept in it.

    What was kept before is given up. A network that is not held in memory is read once for each step, all canvases
    going through it together: of 7B, 15 GB a step.

    Raises:
        MismatchedBase: the base is of another checkpoint.
        BaseNotWritten: they cannot be kept.
        CheckpointError: a tensor is damaged, or a file changed meanwhile.
        CorruptBase: the base is damaged.
        MissingExtra: PyTorch is not installed.
    """
    base.check(checkpoint)
    network = _reference(checkpoint)
    planned, made = sum(pass_count(config, begun, checkpoint.config.vocab_size) for config in configs), 0

    def advance(_done: int, _all: int) -> None:
        nonlocal made
        made += 1
        progress(made, planned)

    found = [record(network, begun, config, progress=advance) for config in configs]
    return base.with_extra(TRAJECTORIES, [each.to_dict() for each in found])


def trajectories(base: Base) -> tuple[Trajectory, ...]:
    """Those that are kept in `base`.

    Raises:
        CorruptBase: it keeps something else under that name.
    """
    try:
        found = tuple(Trajectory.from_dict(each) for each in base.extra(TRAJECTORIES) or ())
    except (KeyError, TypeError, ValueError, OverflowError, DreamEdgeError):
        raise CorruptBase(base.path, "what it keeps as trajectories are none") from None
    for path in (path for each in found for path in each.paths):
        for ids in (path.ids, path.tokens):
            if not (np.all(ids >= 0) and np.all(ids < base.config.vocab_size)) or len(ids) > base.config.context:
                raise CorruptBase(base.path, "its trajectories do not fit the model")
    return found


def follow(
    network: Network,
    recorded: Sequence[Trajectory],
    tokenizer: Tokenizer,
    *,
    progress: Progress = lambda _done, _all: None,
) -> tuple[TrajectoryFigures, ...]:
    """What `network` does along each of `recorded`, and what it writes by itself."""
    planned = follow_count(recorded, network.config.vocab_size)
    made = 0

    def advance(_done: int, _all: int) -> None:
        nonlocal made
        made += 1
        progress(made, planned)

    found = []
    for each in recorded:
        seen = replay(network, each, progress=advance)
        freely = record(network, each.begun, each.config, progress=advance)
        found.append(along(each, seen, freely, tokenizer, network.config.eos_token_id))
    return tuple(found)


def follow_count(recorded: Sequence[Trajectory], vocab_size: int) -> int:
    """How many passes `follow` makes at most."""
    return sum(2 * pass_count(each.config, each.begun, vocab_size) for each in recorded)


def _reference(checkpoint: Checkpoint) -> Network:
    try:
        from dream_edge_export.reference.from_disk import StreamedNetwork
        from dream_edge_export.reference.in_memory import ReferenceNetwork
        from dream_edge_export.reference.model import load_reference
    except ImportError:
        raise MissingExtra("Recording the reference's trajectory", "export") from None
    return ReferenceNetwork(load_reference(checkpoint)) if is_held(checkpoint) else StreamedNetwork(checkpoint)
