"""The finished part of some work: lines that are only appended, each after the bytes it speaks of."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dream_edge_runtime.files.writing import open_to_append, sync_directory, write_all


@dataclass(frozen=True)
class Finished:
    """The number of complete tensors, and the SHA-256 of the shards that hold them."""

    count: int = 0
    digests: Mapping[str, str] = field(default_factory=dict)


class Journal:
    """The journal in file `path`, of the work that `key` identifies.

    Use as a context manager. `finished` is what an earlier run of the same work left, nothing if it was other work.
    """

    def __init__(self, path: Path, key: str) -> None:
        self._path, self._key = path, key
        self.finished, self._size = _read(path, key)
        self._fd = -1

    def __enter__(self) -> Journal:
        is_new = not self._path.exists()
        self._fd = open_to_append(self._path, self._size)  # a line that was torn goes
        if not self._size:
            self._append({"key": self._key})
        if is_new:
            sync_directory(self._path.parent)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def reset(self) -> None:
        """Forget what an earlier run left."""
        self.finished, self._size = Finished(), 0

    def record(self, finished: Finished) -> None:
        """Raises OSError; then the journal stays as it was."""
        if finished != self.finished:
            self._append({"count": finished.count, "digests": dict(finished.digests)})
            self.finished = finished

    def _append(self, line: Mapping[str, Any]) -> None:
        data = json.dumps(line, separators=(",", ":")).encode() + b"\n"
        write_all(self._fd, data)
        os.fsync(self._fd)


def _read(path: Path, key: str) -> tuple[Finished, int]:
    """What the last whole line says, and where it ends; nothing and 0 if the journal is of other work."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return Finished(), 0
    finished, size = Finished(), 0
    for line in data.splitlines(keepends=True):
        try:
            if not line.endswith(b"\n"):
                break
            entry = json.loads(line)
            if not size:
                if entry != {"key": key}:
                    break
            else:
                finished = Finished(entry["count"], entry["digests"])
        except (ValueError, KeyError, TypeError):
            break
        size += len(line)
    return finished, size
