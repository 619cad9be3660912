"""An artifact on disk: opened with its structure checked, verified in full when asked."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .errors import CorruptArtifact
from .graph_check import check_graph
from .manifest import FileEntry, Manifest
from .tokenizer import Tokenizer

TOKENIZER = "tokenizer.json"
CARD = "README.md"

_CHUNK = 1 << 20
_LARGEST_TOKENIZER = 256 << 20

Progress = Callable[[int], None]
"""Called with the number of bytes done since the last call."""


@dataclass(frozen=True)
class Artifact:
    """A directory that holds an exported model. It is data: nothing in it is ever run as code."""

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: Path) -> Artifact:
        """Check that every listed file is there with its size and that the graphs are what the manifest implies.

        Raises: ArtifactNotFound, CorruptArtifact, UnsupportedArtifact.
        """
        artifact = cls(path, Manifest.read(path))
        for entry in artifact.manifest.files:
            artifact._check_size(entry)
        if TOKENIZER not in artifact._sizes():
            raise CorruptArtifact(path, f"{TOKENIZER} is not among its files")
        manifest = artifact.manifest
        for target, name in manifest.graphs.items():
            check_graph(path / name, manifest.config, manifest.recipe.targets[target], target, artifact._sizes())
        return artifact

    def verify(self, progress: Progress = lambda _: None) -> None:
        """Read every file and compare its SHA-256. Raises CorruptArtifact at the first that differs."""
        for entry in self.manifest.files:
            digest = hashlib.sha256()
            for chunk in _chunks(self.path / entry.name):
                digest.update(chunk)
                progress(len(chunk))
            if digest.hexdigest() != entry.sha256:
                raise CorruptArtifact(self.path / entry.name, "its SHA-256 is not the one in the manifest")

    def tokenizer(self) -> Tokenizer:
        if self._sizes()[TOKENIZER] > _LARGEST_TOKENIZER:
            raise CorruptArtifact(self.path / TOKENIZER, f"a tokenizer has at most {_LARGEST_TOKENIZER >> 20} MB")
        tokenizer = Tokenizer.from_file(self.path / TOKENIZER)
        if tokenizer.vocab_size > self.manifest.config.vocab_size:
            rows = self.manifest.config.vocab_size
            raise CorruptArtifact(self.path / TOKENIZER, f"it has ids beyond the network's vocabulary of {rows}")
        return tokenizer

    @property
    def size(self) -> int:
        """Bytes of all files but the manifest."""
        return sum(self._sizes().values())

    def _sizes(self) -> dict[str, int]:
        return {entry.name: entry.size for entry in self.manifest.files}

    def _check_size(self, entry: FileEntry) -> None:
        path = self.path / entry.name
        if not path.is_file():  # follows links, as the cache of a hub lays them
            raise CorruptArtifact(path, "the file is missing or is not a regular file")
        size = path.stat().st_size
        if size != entry.size:
            raise CorruptArtifact(path, f"it has {size} bytes, the manifest says {entry.size}")


def _chunks(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                yield chunk
    except OSError as error:
        raise CorruptArtifact(path, f"cannot be read ({error.strerror})") from None
