"""Dream 7B, the diffusion language model, on a laptop.

    import dream_edge

    model = dream_edge.load("tiny")
    print(model.generate("What sound does the dog make?").text)

Importing this package imports neither ONNX Runtime nor PyTorch; loading a model imports ONNX Runtime.
"""

from importlib.metadata import version as _version

from dream_edge_runtime.errors import Cancelled, DreamEdgeError
from dream_edge_runtime.generation_config import ALGORITHMS, GenerationConfig
from dream_edge_runtime.model import DreamModel
from dream_edge_runtime.results import MASK_SYMBOL, Generation, Step

from .models import load, resolve_artifact, resolve_checkpoint

__version__ = _version("dream-edge")

__all__ = [
    "ALGORITHMS",
    "MASK_SYMBOL",
    "Cancelled",
    "DreamEdgeError",
    "DreamModel",
    "Generation",
    "GenerationConfig",
    "Step",
    "load",
    "resolve_artifact",
    "resolve_checkpoint",
]
