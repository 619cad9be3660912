"""What an artifact or a checkpoint is, without reading a weight: what `dream-edge info` prints."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from dream_edge_runtime.artifact import Artifact
from dream_edge_runtime.chat_format import ChatFormat
from dream_edge_runtime.files.json import read_json_object
from dream_edge_runtime.format.manifest import MANIFEST
from dream_edge_runtime.format.memory import CANVAS, MemoryEstimate, estimate_memory
from dream_edge_runtime.format.model_config import ModelConfig
from dream_edge_runtime.format.recipe import Recipe
from dream_edge_runtime.format.tensors import EMBEDDING, LM_HEAD, parameter_count, stored_shapes, vector_sizes
from dream_edge_runtime.inference.memory import BLOCK, estimate_gpu_memory
from dream_edge_runtime.progress import OnProgress, silent

from .hub import find_or_download
from .models import hub_repository, resolve_artifact

_NONCOMMERCIAL = re.compile(r"\bnc\b|non-?commercial|^apple-amlr$")


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """What artifacts and checkpoints have in common."""

    kind: ClassVar[str]

    path: Path
    config: ModelConfig
    """Geometry, context, shift and special ids."""
    bytes: int
    """Stored: of a checkpoint the weights, of an artifact everything."""
    bits_per_weight: float
    generation_defaults: Mapping[str, Any]
    """From generation_config.json."""
    chat_format: ChatFormat | None
    """How conversations are written; None where that is not known."""
    license: str | None
    """The weights', as the checkpoint's card names it."""

    @property
    def is_noncommercial(self) -> bool:
        """Whether the licence is one of those that are known to forbid commercial use."""
        return self.license is not None and bool(_NONCOMMERCIAL.search(self.license.lower()))

    @property
    def parameters_by_part(self) -> dict[str, int]:
        counts = {name: rows * columns for name, (rows, columns) in stored_shapes(self.config).items()}
        return _add_up(counts) | {"norms and biases": sum(vector_sizes(self.config).values())}

    @property
    def parameters(self) -> int:
        return sum(self.parameters_by_part.values())

    @property
    def canvas(self) -> int:
        """Tokens of the canvas that memory is estimated for."""
        return min(CANVAS, self.config.context)

    @property
    def special_ids(self) -> dict[str, int]:
        stated = self.config.to_dict()
        return {name: id_ for name, id_ in stated.items() if name.endswith("_token_id") and id_ is not None}

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; sizes in bytes."""
        stated = self.config.to_dict()
        context, shift = stated.pop("context"), stated.pop("shift")
        return {
            "kind": self.kind,
            "path": str(self.path),
            "geometry": {name: value for name, value in stated.items() if not name.endswith("_token_id")},
            "context": context,
            "shift": shift,
            "special_ids": self.special_ids,
            "parameters": self.parameters,
            "parameters_by_part": self.parameters_by_part,
            "bits_per_weight": self.bits_per_weight,
            "bytes": self.bytes,
            "generation_defaults": dict(self.generation_defaults),
            "chat_format": self.chat_format and asdict(self.chat_format),
            "license": self.license,
            "is_noncommercial": self.is_noncommercial,
        }


@dataclass(frozen=True, kw_only=True)
class CheckpointInfo(ModelInfo):
    """What config.json and the sizes of the files say."""

    kind = "checkpoint"

    dtype: str | None

    def to_dict(self) -> dict[str, Any]:
        return super().to_dict() | {"dtype": self.dtype}


@dataclass(frozen=True, kw_only=True)
class ArtifactInfo(ModelInfo):
    """What the manifest says and what follows from it."""

    kind = "artifact"

    recipe: Recipe
    bytes_by_part: Mapping[str, int]
    memory: MemoryEstimate
    """Of the CPU's graph, if there is one."""
    gpu_memory: MemoryEstimate | None
    targets: tuple[str, ...]
    provenance: Mapping[str, Any]
    """Where the weights came from, and which program made the artifact of them."""

    @property
    def rows(self) -> int:
        """Rows of logits that GPU memory is estimated for."""
        return min(BLOCK, self.canvas)

    def to_dict(self) -> dict[str, Any]:
        """See `ModelInfo.to_dict`."""
        gpu = self.gpu_memory
        return super().to_dict() | {
            "scheme": self.recipe.scheme,
            "recipe": asdict(self.recipe),
            "bytes_by_part": dict(self.bytes_by_part),
            "expected_memory": {
                "weights": self.memory.weights,
                "loading": self.memory.loading,
                "pass": self.memory.working,
                "canvas": self.canvas,
            },
            **(
                {
                    "expected_gpu_memory": {
                        "weights": gpu.weights,
                        "pass": gpu.working,
                        "canvas": self.canvas,
                        "rows": self.rows,
                    }
                }
                if gpu
                else {}
            ),
            "targets": list(self.targets),
            "provenance": dict(self.provenance),
        }


def info(
    name: str | Path,
    *,
    attention: str | None = None,
    shift: int | None = None,
    mask_token: str | None = None,
    progress: OnProgress = silent,
) -> ArtifactInfo | CheckpointInfo:
    """Describe an artifact or a checkpoint: geometry, size, expected memory, generation defaults, origin.

    Args:
        name: a directory, a name on a hub, or "tiny" (the bundled artifact).
        attention: what the files of a checkpoint leave open, as are the next two: see `dream_edge.export`.
        shift: see there.
        mask_token: see there.
        progress: told of a download in bytes.

    Raises: InvalidOption, ArtifactNotFound, CorruptArtifact, UnsupportedArtifact, CheckpointError, HubError.
    """
    repository = hub_repository(name)
    if repository is not None:
        name = find_or_download(repository, progress=progress)
    path = Path(name)
    if (path / "config.json").is_file() and not (path / MANIFEST).is_file():
        return _describe_checkpoint(path, {"attention": attention, "shift": shift, "mask_token": mask_token})
    return _describe_artifact(Artifact.open(resolve_artifact(name)))


def _describe_artifact(artifact: Artifact) -> ArtifactInfo:
    manifest = artifact.manifest
    config, recipe = manifest.config, manifest.recipe
    formats = next(iter(recipe.targets.values()))  # the CPU's, if there are two
    stored = {name: formats.of(name).stored_bytes(*shape) for name, shape in stored_shapes(config).items()}
    return ArtifactInfo(
        path=artifact.path,
        config=config,
        bytes=artifact.size,
        bits_per_weight=formats.bits_per_weight(config),
        generation_defaults=manifest.generation,
        recipe=recipe,
        bytes_by_part=_add_up(stored) | {"norms and biases": formats.stored_bytes(config) - sum(stored.values())},
        memory=estimate_memory(config, formats),
        gpu_memory=estimate_gpu_memory(config, recipe) if "cuda" in recipe.targets else None,
        targets=tuple(sorted(manifest.graphs)),
        provenance=dict(manifest.provenance) | {"producer": manifest.producer},
        license=manifest.license,
        chat_format=manifest.chat_format,
    )


def _describe_checkpoint(path: Path, stated: Mapping[str, Any]) -> CheckpointInfo:
    from dream_edge_export.checkpoint.chat_template import read_chat_format
    from dream_edge_export.checkpoint.config import read_checkpoint_config, read_generation_defaults, read_licence
    from dream_edge_export.checkpoint.forms import StatedFacts

    config = read_checkpoint_config(path, StatedFacts(**stated))
    raw = read_json_object(path / "config.json")
    stored = sum(file.stat().st_size for file in path.glob("*.safetensors"))
    return CheckpointInfo(
        path=path,
        config=config,
        bytes=stored,
        bits_per_weight=8 * stored / parameter_count(config),
        generation_defaults=read_generation_defaults(path),
        dtype=raw.get("torch_dtype") or raw.get("dtype"),
        chat_format=read_chat_format(path),
        license=read_licence(path),
    )


def _add_up(amounts: Mapping[str, int]) -> dict[str, int]:
    """Amounts of matrices, by part of the network; a tied lm_head is the embedding and has none."""
    embedding, head = amounts[EMBEDDING], amounts.get(LM_HEAD, 0)
    return {"embedding": embedding, "layers": sum(amounts.values()) - embedding - head, "lm_head": head}
