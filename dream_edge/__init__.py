"""Dream 7B, the diffusion language model, on a laptop.

    import dream_edge

    model = dream_edge.load("tiny")
    print(model.generate("What sound does the dog make?").text)

Names are imported when they are first used, so that importing the package costs a desktop program nothing at its start.
"""

from __future__ import annotations

from importlib import import_module
from types import FunctionType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dream_edge_runtime.artifact import Artifact
    from dream_edge_runtime.errors import Cancelled, DreamEdgeError
    from dream_edge_runtime.generation.config import ALGORITHMS, GenerationConfig
    from dream_edge_runtime.generation.denoising import Denoising
    from dream_edge_runtime.generation.results import MASK_SYMBOL, Change, Generation, Step
    from dream_edge_runtime.model import DreamModel
    from dream_edge_runtime.progress import OnProgress, Progress
    from dream_edge_runtime.text.template import Draft, Hole

    from .batches import batch
    from .benchmark.bench import bench
    from .comparing import compare
    from .description import info
    from .exporting import export
    from .hub import pull
    from .models import load, resolve_artifact, resolve_checkpoint, verify
    from .quality.comparison import Comparison
    from .quality.sensitivity.effects import Sensitivity
    from .quality.sensitivity.measure import sensitivity
    from .recommendation.recommend import Recommendation, recommend
    from .scoring.score import Score, score
    from .sweeping import Sweep, sweep

    __version__: str

__all__ = [
    "ALGORITHMS",
    "MASK_SYMBOL",
    "Artifact",
    "Cancelled",
    "Change",
    "Comparison",
    "Denoising",
    "Draft",
    "DreamEdgeError",
    "DreamModel",
    "Generation",
    "GenerationConfig",
    "Hole",
    "OnProgress",
    "Progress",
    "Recommendation",
    "Score",
    "Sensitivity",
    "Step",
    "Sweep",
    "batch",
    "bench",
    "compare",
    "export",
    "info",
    "load",
    "pull",
    "recommend",
    "resolve_artifact",
    "resolve_checkpoint",
    "score",
    "sensitivity",
    "sweep",
    "verify",
]

if not TYPE_CHECKING:  # hidden from type checkers, so that a misspelt name is an error to them
    _NAMES = {
        "dream_edge.batches": "batch",
        "dream_edge.benchmark.bench": "bench",
        "dream_edge.comparing": "compare",
        "dream_edge.description": "info",
        "dream_edge.exporting": "export",
        "dream_edge.hub": "pull",
        "dream_edge.models": "load resolve_artifact resolve_checkpoint verify",
        "dream_edge.quality.comparison": "Comparison",
        "dream_edge.quality.sensitivity.effects": "Sensitivity",
        "dream_edge.quality.sensitivity.measure": "sensitivity",
        "dream_edge.recommendation.recommend": "Recommendation recommend",
        "dream_edge.sweeping": "Sweep sweep",
        "dream_edge.scoring.score": "Score score",
        "dream_edge_runtime.artifact": "Artifact",
        "dream_edge_runtime.errors": "Cancelled DreamEdgeError",
        "dream_edge_runtime.generation.config": "ALGORITHMS GenerationConfig",
        "dream_edge_runtime.generation.denoising": "Denoising",
        "dream_edge_runtime.generation.results": "MASK_SYMBOL Change Generation Step",
        "dream_edge_runtime.model": "DreamModel",
        "dream_edge_runtime.progress": "OnProgress Progress",
        "dream_edge_runtime.text.template": "Draft Hole",
    }
    _HOMES = {name: module for module, names in _NAMES.items() for name in names.split()}

    def __getattr__(name: str) -> object:
        if name == "__version__":
            return import_module("dream_edge_runtime.host").installed_version()
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        try:
            value = getattr(import_module(_HOMES[name]), name)
        except ModuleNotFoundError:
            if name != "batch":  # the others import what an extra brings when they are called
                raise
            raise import_module("dream_edge_runtime.errors").MissingExtra("Answering batches", "serve") from None
        if isinstance(value, FunctionType):
            value = import_module("dream_edge.door").guard(value)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
