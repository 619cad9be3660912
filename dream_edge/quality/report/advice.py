"""Which of several artifacts to take for a memory."""

from __future__ import annotations

from collections.abc import Sequence

from dream_edge_runtime.artifact import Artifact
from dream_edge_runtime.format.memory import estimate_memory

from .contents import Advice, Entry


def advise(pairs: Sequence[tuple[Artifact, Entry]], memory: int) -> Advice:
    """The one with the lowest mean KL of those that fit into `memory` bytes, weights and a pass of 512 tokens."""
    needed = {entry.name: needed_memory(artifact) for artifact, entry in pairs}
    fitting = [entry for _, entry in pairs if needed[entry.name] <= memory]
    best = min(fitting, key=lambda entry: entry.comparison.overall.kl_mean, default=None)
    return Advice(memory=memory, needed=needed, chosen=None if best is None else best.name)


def needed_memory(artifact: Artifact) -> int:
    """Bytes on the processor at the worst moment, the estimate of `dream-edge info`; without the interpreter."""
    recipe = artifact.manifest.recipe
    formats = recipe.targets.get("cpu") or next(iter(recipe.targets.values()))
    return estimate_memory(artifact.manifest.config, formats).total
