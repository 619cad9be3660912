"""Keeps a copy of a model as ONNX Runtime packs it, to be mapped into memory by later loads.

Packing is tied to the version of ONNX Runtime and to the kind of processor, so such a copy belongs to this machine and
not into an artifact: it lies in the user's cache, and only when asked for. The weights of a mapped copy are pages of a
file: processes share them, and the system takes them back when memory is short.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..format.artifact import Artifact
from ..format.manifest import MANIFEST
from ..format.memory import estimate_memory
from ..format.recipe import Target
from .copies import Copies

GRAPH, WEIGHTS, ENTRY = "model.onnx", "weights.bin", "entry.json"

_SMALLEST_OUTSIDE = "32"  # bytes: not the shapes, which the graph must hold
_CHUNK = 1 << 22
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PrepackedCache(Copies):
    """Prepacked copies in `directory`, which belongs to the user alone."""

    def key(self, artifact: Artifact, target: Target, settings: str, version: str) -> str:
        """Names the copy of this very artifact for this ONNX Runtime `version`, processor and session `settings`."""
        digest = hashlib.sha256((artifact.path / MANIFEST).read_bytes()).hexdigest()
        return hashlib.sha256("\n".join([digest, target, settings, version, _processor()]).encode()).hexdigest()[:16]

    def expected_size(self, artifact: Artifact, target: Target) -> int:
        """About how many bytes a copy takes: ONNX Runtime keeps the weights as they were beside the packed ones."""
        config, formats = artifact.manifest.config, artifact.manifest.recipe.targets[target]
        return formats.stored_bytes(config) + estimate_memory(config, formats).weights

    def find(self, key: str, *, verify: bool = False) -> Path | None:
        """The graph of a whole copy; None if there is none, or only one that is damaged.

        Sizes and the graph's digest are always checked, that of the weights with `verify`.

        Raises: UnsafeCache.
        """
        path = self.directory / key
        if not path.is_dir():
            return None
        self._check_private()
        try:
            document = _read_entry(path)
            for name, (size, digest) in document["files"].items():
                if (path / name).stat().st_size != size:
                    raise ValueError(f"{name} has another size")
                if (verify or name == GRAPH) and _digest(path / name) != digest:
                    raise ValueError(f"{name} was changed")
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            _log.warning("The prepacked copy %s is damaged (%s) and will be made anew.", path, error)
            return None
        with suppress(OSError):
            os.utime(path / ENTRY)  # when it was last used
        return path / GRAPH

    def save(
        self,
        key: str,
        artifact: Artifact,
        target: Target,
        create: Callable[[Path, dict[str, str]], Any],
        agrees: Callable[[Any, Path], bool],
    ) -> Any:
        """What `create` returns: a session made with the graph path and the options that write a copy beside it.

        The copy is put in place once it is whole and `agrees` finds that it computes what the session does.

        Raises: NoRoomForCache, UnsafeCache, and what `create` raises.
        """
        with self._staging(key, self.expected_size(artifact, target)) as staging:
            session = create(
                staging / GRAPH,
                {
                    "session.save_external_prepacked_constant_initializers": "1",
                    "session.optimized_model_external_initializers_file_name": WEIGHTS,
                    "session.optimized_model_external_initializers_min_size_in_bytes": _SMALLEST_OUTSIDE,
                },
            )
            if not agrees(session, staging / GRAPH):  # ONNX Runtime 1.31.1 loses some very small packed tensors
                _log.warning("No prepacked copy of %s is kept: it would not compute the same.", artifact.path)
                return session
            names = [path.name for path in sorted(staging.iterdir())]
            files = {name: [(staging / name).stat().st_size, _digest(staging / name)] for name in names}
            document = {"artifact": str(artifact.path.absolute()), "files": files}
            (staging / ENTRY).write_text(json.dumps(document), encoding="utf-8")
            self._put_in_place(staging, key)
            return session

    def _origin(self, path: Path) -> tuple[str, Path]:
        return str(_read_entry(path)["artifact"]), path / ENTRY

    def _is_whole(self, key: str) -> bool:
        return self.find(key, verify=True) is not None


def _read_entry(path: Path) -> dict[str, Any]:
    document = json.loads((path / ENTRY).read_text(encoding="utf-8"))
    if set(document["files"]) != {GRAPH, WEIGHTS}:
        raise ValueError("files are missing")
    return dict(document)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _processor() -> str:
    """The kind of this processor: its model and what it can do, where Linux says so."""
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:
        lines = []
    told = [line for line in lines if line.split("\t")[0].strip() in ("model name", "flags", "CPU part", "Features")]
    return "\n".join([platform.machine(), platform.processor(), *told])
