"""Keeps int8 copies of 4-bit artifacts, so that one that was fetched small is converted once."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from ..artifact import Artifact
from ..errors import DreamEdgeError, UnsafeCache
from ..files.writing import check_disk, explain_write_errors, move
from ..format.manifest import MANIFEST, Manifest
from ..progress import OnProgress, silent
from ..units import size
from .artifact import estimate_bytes, requantize

_REVISION = "2"  # of what `requantize` writes
_ABANDONED_SECONDS = 24 * 3600
_REMEDY = "name another place with XDG_CACHE_HOME, or load without a copy"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CachedModel:
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
class Int8Cache:
    """Int8 copies in `directory`, which belongs to the user alone; each of its directories is an artifact."""

    directory: Path

    def key(self, artifact: Artifact) -> str:
        """The name of the copy of this very artifact."""
        manifest = (artifact.path / MANIFEST).read_bytes()
        return hashlib.sha256(_REVISION.encode() + manifest).hexdigest()[:16]

    def find(self, artifact: Artifact, *, verify: bool = False) -> Artifact | None:
        """The copy of `artifact`; None if there is none, or only a damaged one. `verify` compares digests.

        Raises: UnsafeCache.
        """
        path = self.directory / self.key(artifact)
        if not path.is_dir():
            return None
        self._check_private()
        try:
            copy = Artifact.open(path)
            if verify:
                copy.verify()
        except DreamEdgeError as error:
            _log.warning("The int8 copy %s is damaged (%s) and will be replaced.", path, error)
            return None
        with suppress(OSError):
            os.utime(path / MANIFEST)  # when it was last used
        return copy

    def obtain(
        self, artifact: Artifact, *, threads: int, verify: bool = False, progress: OnProgress = silent
    ) -> Artifact:
        """The copy of `artifact`, made if there is none.

        Raises: NothingToRequantize, NotEnoughDisk, NotWritable, UnsafeCache, CorruptArtifact.
        """
        needed, key = estimate_bytes(artifact), self.key(artifact)
        with explain_write_errors(self.directory, f"Make room, {_REMEDY}."):
            if copy := self.find(artifact, verify=verify):
                return copy
            _log.info("Keeping an int8 copy of about %s in %s", size(needed), self.directory)
            self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._check_private()
            self._remove_abandoned()
            check_disk(self.directory, needed, _REMEDY)
            with TemporaryDirectory(".partial", f".{key}-", self.directory, ignore_cleanup_errors=True) as staging:
                source = str(artifact.path.absolute())
                requantize(artifact, Path(staging), threads=threads, source=source, progress=progress)
                self._put_in_place(Path(staging), key)
        return Artifact.open(self.directory / key)

    def entries(self) -> list[CachedModel]:
        """Every copy, the last used first; also those that are damaged, so that they can be removed."""
        if not self.directory.is_dir():
            return []
        found = [_describe(path) for path in self.directory.iterdir() if path.is_dir()]
        return sorted(found, key=lambda entry: -entry.used)

    def remove(self, entry: CachedModel) -> None:
        """Delete a copy. Programs that have it mapped keep it, where the system allows removing mapped files."""
        shutil.rmtree(entry.path)

    def _put_in_place(self, staging: Path, key: str) -> None:
        """Make what was built the copy `key`; of two processes that make the same one, the first wins."""
        path = self.directory / key
        if path.exists():  # damaged, or made by another process in the meantime
            with suppress(DreamEdgeError):
                Artifact.open(path).verify()
                return
            shutil.rmtree(path, ignore_errors=True)
        try:
            move(staging, path)
        except OSError:
            if not path.exists():
                raise

    def _remove_abandoned(self) -> None:
        """Remove what a killed process left; another one may be at work on a younger directory."""
        for path in self.directory.glob(".*.partial"):
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                    shutil.rmtree(path, ignore_errors=True)

    def _check_private(self) -> None:
        """Refuse a directory into which another user could put a model."""
        if hasattr(os, "getuid"):
            found = self.directory.stat()
            if found.st_uid != os.getuid() or found.st_mode & 0o022:
                raise UnsafeCache(self.directory)


def _describe(path: Path) -> CachedModel:
    size = sum(file.stat().st_size for file in path.iterdir() if file.is_file())
    try:
        artifact = str(Manifest.read(path).provenance["requantized_from"])
        used = (path / MANIFEST).stat().st_mtime
    except (DreamEdgeError, OSError, KeyError):
        artifact, used = "incomplete", path.stat().st_mtime
    return CachedModel(path.name, path, artifact, size, used)
