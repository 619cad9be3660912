"""What a repository holds, and which of its files are wanted: decided from the hub's list, before a file is fetched."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from dream_edge_runtime.errors import PickleCheckpoint, UnsupportedArtifact
from dream_edge_runtime.format.manifest import MANIFEST

from .cache import Repository
from .errors import NotADream


class Kind(StrEnum):
    """What a repository holds."""

    ARTIFACT = "artifact"
    CHECKPOINT = "checkpoint"


_ARTIFACT_FILES = re.compile(r"manifest\.json|tokenizer\.json|README\.md|model_\w+\.onnx|weights-\d{5}\.bin")
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
    """The files of one commit that are wanted, smallest first, so that what is wrong shows early."""

    repository: Repository
    commit: str
    kind: Kind
    files: tuple[HubFile, ...]

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
        return tuple(file for file in self.files if not is_there(self.path / file.name, file))

    def partial(self, file: HubFile) -> Path:
        """Where `file` grows while it is fetched; a later download goes on from there."""
        return self.repository.directory / "blobs" / f"{file.digest}.dream-edge.incomplete"

    @property
    def to_fetch(self) -> int:
        """Bytes that have not arrived yet."""
        return sum(max(0, file.size - self.arrived(file)) for file in self.missing)

    def arrived(self, file: HubFile) -> int:
        """Bytes of `file` that lie in the cache."""
        if is_there(self.repository.directory / "blobs" / file.digest, file):
            return file.size
        try:
            return self.partial(file).stat().st_size
        except FileNotFoundError:
            return 0

    @property
    def free(self) -> int:
        """Bytes that are free where the cache is, or will be."""
        place = self.repository.directory.absolute()
        return shutil.disk_usage(next(each for each in (place, *place.parents) if each.exists())).free


def is_there(path: Path, file: HubFile) -> bool:
    return path.is_file() and path.stat().st_size == file.size


def planned(repository: Repository, commit: str, files: Iterable[HubFile], expected: Kind | None) -> Plan:
    """The plan for a repository that holds `files`.

    Raises:
        NotADream: it is neither a checkpoint nor an artifact.
        PickleCheckpoint: its only weights are pickled.
        UnsupportedArtifact: it is the other kind than `expected`.
    """
    by_name = {file.name: file for file in files}
    kind = _kind(repository, set(by_name))
    if expected is not None and kind != expected:
        raise _other_kind(repository, kind)
    wanted = _ARTIFACT_FILES if kind == Kind.ARTIFACT else _CHECKPOINT_FILES
    chosen = [file for name, file in by_name.items() if wanted.fullmatch(name)]
    if kind == Kind.CHECKPOINT and _SINGLE in by_name:  # other safetensors beside it are other forms of the same
        chosen = [file for file in chosen if file.name == _SINGLE or not file.name.endswith(".safetensors")]
    chosen.sort(key=lambda file: (file.size, file.name))
    return Plan(repository=repository, commit=commit, kind=kind, files=tuple(chosen))


def _kind(repository: Repository, names: set[str]) -> Kind:
    if MANIFEST in names and any(name.endswith(".onnx") and _ARTIFACT_FILES.fullmatch(name) for name in names):
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
