"""What an engine loads."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from dream_edge_runtime.artifact import Artifact
from dream_edge_runtime.format.manifest import MANIFEST
from dream_edge_runtime.format.memory import estimate_memory
from dream_edge_runtime.model import DreamModel
from dream_edge_runtime.progress import OnProgress, silent
from dream_edge_runtime.requantize.artifact import derive_recipe

from ..models import load, resolve_artifact


@dataclass(frozen=True, kw_only=True)
class Source:
    """What each worker loads, in the words of `dream_edge.load`. Its path must be the same on every machine.

    Attributes:
        device: "cpu", or "cuda" for a GPU to each worker.
    """

    name: str | Path
    device: str = "cpu"
    as_int8: bool = False
    memory_check: bool = True
    prefix_cache_bytes: int | None = None

    def load(self, threads: int | None, progress: OnProgress = silent) -> DreamModel:
        """Load the model, with `threads` for a pass."""
        return load(
            self.name,
            device=self.device,
            threads=threads,
            as_int8=self.as_int8,
            memory_check=self.memory_check,
            prefix_cache_bytes=self.prefix_cache_bytes,
            progress=progress,
        )

    def digest(self) -> str:
        """SHA-256 of the manifest, which holds those of all other files."""
        return hashlib.sha256((self._directory() / MANIFEST).read_bytes()).hexdigest()

    def memory(self) -> int:
        """Bytes that a worker takes of its machine's memory; 0 where they are not known or not to be looked at."""
        if self.device != "cpu" or not self.memory_check:
            return 0
        artifact = Artifact.open(self._directory())
        recipe = derive_recipe(artifact) if self.as_int8 else artifact.manifest.recipe
        kept = (self.prefix_cache_bytes or 0) if artifact.manifest.config.causal_block else 0
        return estimate_memory(artifact.manifest.config, recipe.targets["cpu"]).total + kept

    def _directory(self) -> Path:
        return resolve_artifact(self.name)
