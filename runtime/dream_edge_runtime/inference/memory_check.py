"""Refuses a model that the free memory cannot hold, and names the schemes that it could."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..errors import TooLittleGpuMemory, TooLittleMemory
from ..format.manifest import Manifest
from ..format.memory import estimate_memory
from ..format.model_config import ModelConfig
from ..format.recipe import Formats, Recipe, Target
from ..host import free_gpu_memory, free_memory
from .gpu_memory import CONTEXT, estimate_gpu_memory

CANVAS = 256
"""Tokens for whose pass there must be memory on a CPU before a model is loaded."""

Estimate = Callable[[ModelConfig, Formats], int]
"""Bytes that a network in these formats needs."""


def check_memory(path: Path, manifest: Manifest, target: Target) -> None:
    """Raises TooLittleMemory where the system says that less is free than the model needs, loading or running."""

    def estimate(config: ModelConfig, formats: Formats) -> int:
        return estimate_memory(config, formats, canvas=CANVAS).total

    needed, free = estimate(manifest.config, manifest.recipe.targets[target]), free_memory()
    if free is not None and needed > free:
        raise TooLittleMemory(path, needed, free, _list_fitting(manifest.config, target, free, estimate))


def check_gpu_memory(path: Path, manifest: Manifest) -> None:
    """Raises TooLittleGpuMemory where the GPU's free memory cannot hold the model and a pass."""

    def estimate(config: ModelConfig, formats: Formats) -> int:
        return estimate_gpu_memory(config, formats).total - CONTEXT  # it exists already

    needed, free = estimate(manifest.config, manifest.recipe.targets["cuda"]), free_gpu_memory()
    if free is not None and needed > free:
        fitting = _list_fitting(manifest.config, "cuda", free, estimate)
        raise TooLittleGpuMemory(path, needed, free, fitting, on_cpu="cpu" in manifest.graphs)


def _list_fitting(config: ModelConfig, target: Target, free: int, estimate: Estimate) -> dict[str, int]:
    """The schemes that fit into `free` bytes, and what each needs."""
    recipes = {
        scheme: Recipe.for_scheme(scheme, target=target, layers=config.num_hidden_layers)
        for scheme in ("int8", "mixed", "int4")
    }
    sizes = {scheme: estimate(config, recipe.targets[target]) for scheme, recipe in recipes.items()}
    return {scheme: size for scheme, size in sizes.items() if size < free}
