"""Trajectories of the reference, kept in a base, and what an artifact does along them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from dream_edge_runtime.errors import DreamEdgeError
from dream_edge_runtime.generation.config import GenerationConfig
from dream_edge_runtime.inference.network import Network
from dream_edge_runtime.progress import Meter, OnProgress, silent
from dream_edge_runtime.text.tokenizer import Tokenizer

from ..errors import CorruptBase
from ..reference.base import Base
from ..texts.read import Passage
from .agreement import TrajectoryFigures, along
from .path import Trajectory
from .record import AfterPass, nothing, pass_count, record, replay

if TYPE_CHECKING:
    from dream_edge_export.checkpoint.checkpoint import Checkpoint

TRAJECTORIES = "trajectories"
"""What they are called in a base."""
LARGEST_HELD = 1 << 30
"""Bytes of weights in fp32 up to which the reference is held in memory; a larger one is read again for every pass."""


def is_held(checkpoint: Checkpoint) -> bool:
    """Whether the reference's trajectories are cheap: the network is small enough to stay in memory."""
    return 4 * sum(math.prod(checkpoint.shape(name)) for name in checkpoint.names) <= LARGEST_HELD


def with_trajectories(
    base: Base,
    checkpoint: Checkpoint,
    begun: Sequence[Passage],
    configs: Sequence[GenerationConfig],
    *,
    progress: OnProgress = silent,
) -> Base:
    """`base` with the trajectory of its own `checkpoint` from the same openings by each of `configs` kept in it.

    What was kept before is replaced. A network that is not held in memory is read once for each step, all canvases
    going through it together: of 7B, 15 GB a step.

    Raises: MismatchedBase, CorruptBase, CheckpointError, NotWritable.
    """
    base.check(checkpoint)
    network = reference_network(checkpoint)
    planned = sum(pass_count(config, begun, checkpoint.config) for config in configs)
    passes = Meter(progress, "recording the reference's trajectories", planned, "passes")
    found = [record(network, begun, config, after_pass=passes.advance) for config in configs]
    return base.with_extra(TRAJECTORIES, [each.to_dict() for each in found])


def trajectories(base: Base) -> tuple[Trajectory, ...]:
    """Those that are kept in `base`. Raises CorruptBase where it keeps something else under that name."""
    try:
        found = tuple(Trajectory.from_dict(each) for each in base.extra(TRAJECTORIES) or ())
    except (KeyError, TypeError, ValueError, OverflowError, DreamEdgeError):
        raise CorruptBase(base.path, "the stored trajectories are malformed") from None
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
    after_pass: AfterPass = nothing,
) -> tuple[TrajectoryFigures, ...]:
    """What `network` does along each of `recorded`, and what it writes by itself."""
    found = []
    for each in recorded:
        seen = replay(network, each, after_pass=after_pass)
        freely = record(network, each.begun, each.config, after_pass=after_pass)
        found.append(along(each, seen, freely, tokenizer, network.config.eos_token_id))
    return tuple(found)


def reference_network(checkpoint: Checkpoint) -> Network:
    """The full-precision network: in memory if it is small, else read from the disk for every pass."""
    from dream_edge_export.reference.model import load_reference
    from dream_edge_export.reference.networks import LayerwiseNetwork, ReferenceNetwork

    return ReferenceNetwork(load_reference(checkpoint)) if is_held(checkpoint) else LayerwiseNetwork(checkpoint)
