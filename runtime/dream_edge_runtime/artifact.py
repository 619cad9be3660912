"""An artifact on disk: opened with its structure checked, verified in full when asked."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .errors import CorruptArtifact
from .files.regular import open_regular, read_regular
from .format.manifest import FileEntry, Manifest
from .format.model_config import ModelConfig
from .format.recipe import Formats, Target
from .graph.graph_check import check_graph
from .graph.value_check import check_values
from .progress import Meter, OnProgress, silent
from .text.tokenizer import LARGEST_FILE, Tokenizer

TOKENIZER = "tokenizer.json"
CARD = "README.md"

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Artifact:
    """A directory that holds an exported model. It is data: nothing in it is ever run as code."""

    path: Path
    """Its directory."""
    manifest: Manifest
    """What it says of itself."""

    @classmethod
    def open(cls, path: Path) -> Artifact:
        """Check that every listed file is there with its size and that the graphs are what the manifest implies.

        Raises: ArtifactNotFound, CorruptArtifact, UnsupportedArtifact.
        """
        artifact = cls(path, Manifest.read(path))
        for entry in artifact.manifest.files:
            artifact._check_size(entry)
        if TOKENIZER not in artifact._sizes():
            raise CorruptArtifact(path / TOKENIZER, "the manifest does not list it")
        for target, name in artifact.manifest.graphs.items():
            check_graph(path / name, *artifact._graph_arguments(target))
        return artifact

    def verify(self, progress: OnProgress = silent) -> None:
        """Read every file and compare its SHA-256; then look for floating-point weights and scales that are not finite.

        Raises CorruptArtifact at the first that differs. Progress is that of the first part, in bytes.
        """
        meter = Meter(progress, "reading", self.size, "bytes")
        for entry in self.manifest.files:
            digest, left = hashlib.sha256(), entry.size
            for chunk in _chunks(self.path / entry.name, entry.size):
                digest.update(chunk)
                left -= len(chunk)
                meter.advance(len(chunk))
            if left or digest.hexdigest() != entry.sha256:
                raise CorruptArtifact(self.path / entry.name, "its SHA-256 is not the one in the manifest")
        for target, name in self.manifest.graphs.items():
            check_values(self.path, check_graph(self.path / name, *self._graph_arguments(target)))

    def tokenizer(self) -> Tokenizer:
        """Its tokenizer, checked."""
        path = self.path / TOKENIZER
        tokenizer = Tokenizer.from_bytes(read_regular(path, LARGEST_FILE), source=path)
        if tokenizer.vocab_size > self.manifest.config.vocab_size:
            rows = self.manifest.config.vocab_size
            raise CorruptArtifact(path, f"it has ids beyond the network's vocabulary of {rows}")
        return tokenizer

    @property
    def size(self) -> int:
        """Bytes of all files but the manifest."""
        return sum(self._sizes().values())

    def _sizes(self) -> dict[str, int]:
        return {entry.name: entry.size for entry in self.manifest.files}

    def _graph_arguments(self, target: Target) -> tuple[ModelConfig, Formats, Target, dict[str, int]]:
        return self.manifest.config, self.manifest.recipe.targets[target], target, self._sizes()

    def _check_size(self, entry: FileEntry) -> None:
        path = self.path / entry.name
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
        if size != entry.size:
            raise CorruptArtifact(path, f"it has {size} bytes, the manifest says {entry.size}")


def _chunks(path: Path, size: int) -> Iterator[bytes]:
    """At most `size` + 1 bytes of a file: one that grows while it is read does not keep us for ever."""
    left = size + 1
    with open_regular(path) as file:
        try:
            while left > 0 and (chunk := file.read(min(_CHUNK, left))):
                left -= len(chunk)
                yield chunk
        except OSError as error:
            raise CorruptArtifact(path, f"cannot be read ({error.strerror})") from None
