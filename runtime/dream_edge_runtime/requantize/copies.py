"""A directory of the user's alone, with copies of models that suit this machine and can be made again."""

from __future__ import annotations

import os
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ..errors import NoRoomForCache, UnsafeCache

_ABANDONED_SECONDS = 24 * 3600


@dataclass(frozen=True)
class Entry:
    """One copy in the cache."""

    key: str
    path: Path
    artifact: str
    """Where the artifact lay when the copy was made."""
    size: int
    """Bytes on disk."""
    used: float
    """When it was last loaded, in seconds since 1970."""


@dataclass(frozen=True)
class Copies(ABC):
    """Copies in `directory`, one in each of its directories; a kind of copy is a subclass."""

    directory: Path

    @abstractmethod
    def _origin(self, path: Path) -> tuple[str, Path]:
        """Where the artifact lay that the copy in `path` was made of, and a file that is touched when it is used.

        Raises OSError, ValueError, KeyError, TypeError for a damaged one.
        """

    @abstractmethod
    def _is_whole(self, key: str) -> bool:
        """Whether the copy `key` is undamaged, every byte of it."""

    def entries(self) -> list[Entry]:
        """Every copy, the last used first; also those that are damaged, so that they can be removed."""
        if not self.directory.is_dir():
            return []
        found = [self._entry(path) for path in self.directory.iterdir() if path.is_dir()]
        return sorted(found, key=lambda entry: -entry.used)

    def remove(self, entry: Entry) -> None:
        """Delete a copy. Programs that have it mapped go on with it, where the system allows removing mapped files."""
        shutil.rmtree(entry.path)

    def discard(self, key: str) -> None:
        """Forget the copy `key`, which turned out not to load."""
        shutil.rmtree(self.directory / key, ignore_errors=True)

    def _entry(self, path: Path) -> Entry:
        size = sum(file.stat().st_size for file in path.iterdir() if file.is_file())
        try:
            artifact, touched = self._origin(path)
            used = touched.stat().st_mtime
        except (OSError, ValueError, KeyError, TypeError):
            artifact, used = "incomplete", path.stat().st_mtime
        return Entry(path.name, path, artifact, size, used)

    @contextmanager
    def _staging(self, key: str, needed: int) -> Iterator[Path]:
        """An empty directory in which the copy `key` is built, about `needed` bytes; it is gone afterwards.

        Raises: NoRoomForCache, UnsafeCache.
        """
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._check_private()
        self._remove_abandoned()
        free = shutil.disk_usage(self.directory).free
        if needed > free:
            raise NoRoomForCache(self.directory, needed, free)
        staging = self.directory / f".{key}-{os.getpid()}-{time.monotonic_ns()}.partial"
        staging.mkdir(mode=0o700)
        try:
            yield staging
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def _put_in_place(self, staging: Path, key: str) -> None:
        """Make what was built the copy `key`; of two processes that make the same one, the first wins."""
        path = self.directory / key
        if path.exists():  # damaged, or made by another process in the meantime
            if self._is_whole(key):
                return
            shutil.rmtree(path, ignore_errors=True)
        with suppress(FileExistsError):
            try:
                staging.rename(path)
            except OSError:
                if not path.exists():
                    raise

    def _remove_abandoned(self) -> None:
        """What a killed process left; another one may be at work on a younger directory."""
        for path in self.directory.glob(".*.partial"):
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                    shutil.rmtree(path, ignore_errors=True)

    def _check_private(self) -> None:
        """A graph that another user could have put here is not run."""
        if hasattr(os, "getuid"):
            found = self.directory.stat()
            if found.st_uid != os.getuid() or found.st_mode & 0o022:
                raise UnsafeCache(self.directory)
