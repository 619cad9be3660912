"""What a repository holds, and which of its files are needed: decided from the hub's list, before the download."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from dream_edge_export.errors import PickleCheckpoint
from dream_edge_runtime.errors import UnsupportedArtifact
from dream_edge_runtime.format.manifest import ARTIFACT_FILES, MANIFEST

from .cache import Repository
from .errors import NotADream


class Kind(StrEnum):
    """What a repository holds."""

    ARTIFACT = "artifact"
    CHECKPOINT = "checkpoint"


_CHECKPOINT_FILES = re.compile(
    r"config\.json|generation_config\.json|model\.safetensors\.index\.json|vocab\.json|merges\.txt|tokenizer\.json|"
    r"tokenizer_config\.json|special_tokens_map\.json|added_tokens\.json|README\.md|LICENSE|[A-Za-z0-9][\w.\-]*\.safetensors"
)
_PICKLES = re.compile(r"[\w.\-]+\.(?:bin|pt|pth|ckpt|pkl|pickle)")
_SINGLE = "model.safetensors"


@dataclass(frozen=True)
class HubFile:
    """A file of a repository: its size in bytes and its digest, SHA-256 in hex, or git's SHA-1 for small files."""

    name: str
    size: int
    digest: str


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The files of one commit that are needed."""

    repository: Repository
    commit: str
    kind: Kind
    files: tuple[HubFile, ...]

    @classmethod
    def of(cls, repository: Repository, commit: str, files: Iterable[HubFile], *, expected: Kind | None) -> Plan:
        """The plan for a repository that holds `files`.

        Raises: NotADream, PickleCheckpoint; UnsupportedArtifact, it is the other kind than `expected`.
        """
        by_name = {file.name: file for file in files}
        kind = _find_kind(repository, set(by_name))
        if expected is not None and kind != expected:
            raise _other_kind(repository, kind)
        needed = ARTIFACT_FILES if kind == Kind.ARTIFACT else _CHECKPOINT_FILES
        chosen = [file for name, file in by_name.items() if needed.fullmatch(name)]
        if kind == Kind.CHECKPOINT and _SINGLE in by_name:  # other safetensors beside it are other forms of the same
            chosen = [file for file in chosen if file.name == _SINGLE or not file.name.endswith(".safetensors")]
        return cls(repository=repository, commit=commit, kind=kind, files=tuple(chosen))

    @property
    def path(self) -> Path:
        """The directory of this commit in the cache."""
        return self.repository.snapshot(self.commit)

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(file.size for file in self.files)

    @property
    def missing(self) -> tuple[HubFile, ...]:
        """Files that are not there yet."""
        return tuple(file for file in self.files if not _is_there(self.path / file.name, file))

    @property
    def to_fetch(self) -> int:
        """Bytes that have not arrived yet. A file of another commit may be the same, and there already."""
        blobs = self.repository.directory / "blobs"
        return sum(file.size for file in self.missing if not _is_there(blobs / file.digest, file))


def _is_there(path: Path, file: HubFile) -> bool:
    return path.is_file() and path.stat().st_size == file.size


def _find_kind(repository: Repository, names: set[str]) -> Kind:
    if MANIFEST in names and any(name.endswith(".onnx") and ARTIFACT_FILES.fullmatch(name) for name in names):
        return Kind.ARTIFACT
    if "config.json" not in names:
        raise NotADream(repository, "it has no config.json")
    if not any(name.endswith(".safetensors") and _CHECKPOINT_FILES.fullmatch(name) for name in names):
        pickles = sorted(name for name in names if _PICKLES.fullmatch(name))
        if pickles:
            raise PickleCheckpoint(Path(repository.name, pickles[0]))
        raise NotADream(repository, "it has no *.safetensors")
    return Kind.CHECKPOINT


def _other_kind(repository: Repository, kind: Kind) -> UnsupportedArtifact:
    place = Path(str(repository))
    if kind == Kind.CHECKPOINT:
        remedy = f"Run `dream-edge export {repository} OUT --scheme int4` first."
        return UnsupportedArtifact(place, "this is a checkpoint, not an artifact", remedy)
    remedy = "Name the checkpoint that it was exported from."
    return UnsupportedArtifact(place, "this is an artifact, not a checkpoint", remedy)
