"""Keeps expanded copies of 4-bit artifacts, so that one that was fetched small is expanded once."""

from __future__ import annotations

import hashlib
import logging
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..errors import DreamEdgeError, NoRoomForCache
from ..format.artifact import Artifact
from ..format.manifest import MANIFEST, Manifest
from .artifact import Progress, expand, expanded_bytes
from .copies import Copies

_REVISION = "1"  # of what `expand` writes
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExpandedCache(Copies):
    """Expanded copies in `directory`, which belongs to the user alone; each is an artifact."""

    def key(self, artifact: Artifact) -> str:
        """Names the copy of this very artifact."""
        manifest = (artifact.path / MANIFEST).read_bytes()
        return hashlib.sha256(_REVISION.encode() + manifest).hexdigest()[:16]

    def find(self, artifact: Artifact, *, verify: bool = False) -> Artifact | None:
        """The copy of `artifact`; None if there is none, or only a damaged one. Digests are compared with `verify`.

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
            _log.warning("The expanded copy %s is damaged (%s) and will be made anew.", path, error)
            return None
        with suppress(OSError):
            os.utime(path / MANIFEST)  # when it was last used
        return copy

    def obtain(
        self, artifact: Artifact, *, threads: int, verify: bool = False, progress: Progress = lambda *_: None
    ) -> Artifact:
        """The copy of `artifact`, made if there is none.

        Raises: NothingToExpand, NoRoomForCache, UnsafeCache, CorruptArtifact.
        """
        needed, key = expanded_bytes(artifact), self.key(artifact)
        if copy := self.find(artifact, verify=verify):
            return copy
        with self._staging(key, needed) as staging:
            try:
                expand(artifact, staging, threads=threads, source=str(artifact.path.absolute()), progress=progress)
            except OSError as error:
                if isinstance(error, DreamEdgeError):
                    raise
                raise NoRoomForCache(self.directory, needed, 0) from error
            self._put_in_place(staging, key)
        return Artifact.open(self.directory / key)

    def _origin(self, path: Path) -> tuple[str, Path]:
        try:
            return str(Manifest.read(path).provenance["expanded_from"]), path / MANIFEST
        except DreamEdgeError as error:
            raise ValueError(str(error)) from error

    def _is_whole(self, key: str) -> bool:
        try:
            Artifact.open(self.directory / key).verify()
        except DreamEdgeError:
            return False
        return True
