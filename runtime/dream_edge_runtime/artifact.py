"""An artifact on disk: opened with its structure checked, verified in full when asked."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import CorruptArtifact
from .files.regular import open_regular, read_regular
from .format.layout import Place, plan_layout
from .format.manifest import Manifest
from .graph.model import GRAPH_REVISION, derive_graph
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
    """What it says about itself."""

    @classmethod
    def open(cls, path: Path) -> Artifact:
        """Check that every listed file is there with its size, and that the weights have the sizes the recipe implies.

        The graphs are not read: a runtime derives its own from the manifest.

        Raises: ArtifactNotFound, CorruptArtifact, UnsupportedArtifact.
        """
        artifact = cls(path, Manifest.read(path))
        for entry in artifact.manifest.files:
            with open_regular(path / entry.name) as file:
                found = os.fstat(file.fileno()).st_size
            if found != entry.size:
                raise CorruptArtifact(path / entry.name, f"it has {found} bytes, the manifest says {entry.size}")
        if TOKENIZER not in artifact._sizes():
            raise CorruptArtifact(path / TOKENIZER, "the manifest does not list it")
        for name, size in plan_layout(artifact.manifest.config, artifact.manifest.recipe).sizes().items():
            if artifact._sizes().get(name) != size:
                raise CorruptArtifact(path / name, f"it is not a listed file of {size} bytes, as the recipe implies")
        return artifact

    def verify(self, progress: OnProgress = silent) -> None:
        """Read every file and compare its SHA-256; then compare the graphs with those that the manifest implies.

        Floating-point weights and scales must be finite. A graph of another revision than `GRAPH_REVISION` is not
        compared.

        Raises CorruptArtifact at the first that differs. Progress is that of the first part, in bytes.
        """
        meter = Meter(progress, "reading", self.size, "bytes")
        for entry in self.manifest.files:
            digest, left = hashlib.sha256(), entry.size
            for chunk in _read_chunks(self.path / entry.name, entry.size):
                digest.update(chunk)
                left -= len(chunk)
                meter.advance(len(chunk))
            if left or digest.hexdigest() != entry.sha256:
                raise CorruptArtifact(self.path / entry.name, "its SHA-256 is not the one in the manifest")
        if self.manifest.graph_revision == GRAPH_REVISION:
            for target, name in self.manifest.graphs.items():
                derived = derive_graph(self.manifest.config, self.manifest.recipe, target)
                if self._sizes()[name] != len(derived) or read_regular(self.path / name, len(derived)) != derived:
                    raise CorruptArtifact(self.path / name, "it is not the graph that the manifest implies")
        for place in plan_layout(self.manifest.config, self.manifest.recipe).places:
            if place.spec.dtype.startswith("float"):
                _check_finite(self.path / place.shard, place)

    def tokenizer(self) -> Tokenizer:
        """Its tokenizer, checked."""
        path = self.path / TOKENIZER
        data = read_regular(path, LARGEST_FILE)
        tokenizer = Tokenizer.from_bytes(data, chat_format=self.manifest.chat_format, source=path)
        if tokenizer.vocab_size > self.manifest.config.vocab_size:
            rows = self.manifest.config.vocab_size
            raise CorruptArtifact(path, f"it has ids beyond the network's vocabulary of {rows}")
        return tokenizer

    def map_tensor(self, place: Place) -> NDArray[Any]:
        """What is stored at `place` of the layout, mapped as long as it is in use. Raises CorruptArtifact."""
        path, dtype = self.path / place.shard, np.dtype(place.spec.dtype).newbyteorder("<")
        with open_regular(path) as file:
            if os.fstat(file.fileno()).st_size < place.offset + place.size:  # each system has another error for it
                raise CorruptArtifact(path, "it was cut short meanwhile")
            return np.memmap(file, dtype, "r", place.offset, tuple(map(int, place.spec.shape)))

    @property
    def size(self) -> int:
        """Bytes of all files but the manifest."""
        return sum(self._sizes().values())

    def _sizes(self) -> dict[str, int]:
        return {entry.name: entry.size for entry in self.manifest.files}


def _read_chunks(path: Path, size: int) -> Iterator[bytes]:
    """At most `size` + 1 bytes of a file, so that reading one that grows comes to an end."""
    left = size + 1
    with open_regular(path) as file:
        try:
            while left > 0 and (chunk := file.read(min(_CHUNK, left))):
                left -= len(chunk)
                yield chunk
        except OSError as error:
            raise CorruptArtifact(path, f"cannot be read ({error.strerror})") from None


def _check_finite(path: Path, place: Place) -> None:
    """Refuse NaN and infinity at `place` of the shard `path`; read, not mapped, since a file may be cut short."""
    with open_regular(path) as file:
        file.seek(place.offset)
        for at in range(0, place.size, _CHUNK):
            data = file.read(min(_CHUNK, place.size - at))
            if len(data) != min(_CHUNK, place.size - at):
                raise CorruptArtifact(path, f"it ends within {place.spec.name}")
            if not np.isfinite(np.frombuffer(data, np.dtype(place.spec.dtype).newbyteorder("<"))).all():
                raise CorruptArtifact(path, f"{place.spec.name} holds NaN or infinite values")
