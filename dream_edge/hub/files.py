"""What a repository holds, and which of its files are needed: decided from the hub's list, before the download."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dream_edge_runtime.errors import UnsupportedArtifact
from dream_edge_runtime.format.manifest import ARTIFACT_FILES, MANIFEST

from .cache import SINGLE_FILE, Repository
from .errors import NotAModel

Kind = Literal["artifact", "checkpoint"]
"""What a repository holds."""

_CHECKPOINT_FILES = re.compile(
    r"config\.json|generation_config\.json|model\.safetensors\.index\.json|vocab\.json|merges\.txt|tokenizer\.json|"
    r"tokenizer_config\.json|special_tokens_map\.json|added_tokens\.json|README\.md|LICENSE|[A-Za-z0-9][\w.\-]*\.safetensors"
)


@dataclass(frozen=True)
class HubFile:
    """A file of a repository: its size in bytes and its digest, SHA-256 in hex, or git's SHA-1 for small files."""

    name: str
    size: int
    digest: str

    def is_at(self, path: Path) -> bool:
        """Whether a file of this size is at `path`."""
        return path.is_file() and path.stat().st_size == self.size


def choose_files(
    repository: Repository, files: Sequence[HubFile], expected: Kind | None
) -> tuple[Kind, Sequence[HubFile]]:
    """What a repository of these `files` holds, and those that are needed.

    Raises: NotAModel; UnsupportedArtifact, it is the other kind than `expected`.
    """
    names = {file.name for file in files}
    artifact = [file for file in files if ARTIFACT_FILES.fullmatch(file.name)]
    checkpoint = [file for file in files if _CHECKPOINT_FILES.fullmatch(file.name)]
    if MANIFEST in names and any(file.name.endswith(".onnx") for file in artifact):
        if expected == "checkpoint":
            remedy = "Name the checkpoint that it was exported from."
            raise UnsupportedArtifact(Path(str(repository)), "this is an artifact, not a checkpoint", remedy)
        return "artifact", artifact
    weights = [file for file in checkpoint if file.name.endswith(".safetensors")]
    if not weights or "config.json" not in names:
        remedy = (
            "Nothing was downloaded. Name a repository with config.json and *.safetensors (pickled weights are never "
            "opened), or one that holds what `dream-edge export` wrote."
        )
        raise NotAModel(repository, "this is neither a Dream checkpoint nor an artifact", remedy)
    if expected == "artifact":
        remedy = f"Run `dream-edge export {repository} OUT --scheme int4` first."
        raise UnsupportedArtifact(Path(str(repository)), "this is a checkpoint, not an artifact", remedy)
    if SINGLE_FILE in names:  # other weights beside it are other forms of the same
        return "checkpoint", [file for file in checkpoint if file.name == SINGLE_FILE or file not in weights]
    return "checkpoint", checkpoint
