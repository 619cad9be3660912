"""How much faster a 4-bit artifact would run as one of 8 bits on this machine: found out once, and kept."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from dream_edge_runtime.artifact import Artifact
from dream_edge_runtime.errors import DreamEdgeError, NothingToRequantize
from dream_edge_runtime.files.json import canonical_json, read_json_object
from dream_edge_runtime.files.writing import replace_file
from dream_edge_runtime.format.memory import estimate_memory
from dream_edge_runtime.format.tensors import parameter_count
from dream_edge_runtime.host import default_threads, describe_machine, free_memory
from dream_edge_runtime.inference.devices import import_onnxruntime
from dream_edge_runtime.progress import OnProgress, silent
from dream_edge_runtime.requantize.artifact import derive_recipe, estimate_bytes

from .probe import BLOCK, Network, probe

_ROUNDS = 3
_WORTH = 100_000_000
"""Parameters below which a model answers at once in any scheme."""


@dataclass(frozen=True, kw_only=True)
class Gain:
    """What `as_int8` gives and takes."""

    full: float
    """So many times as fast is a pass over a canvas."""
    cached: float
    """And one over a block, the rest of the canvas being remembered."""
    memory_bytes: int
    disk_bytes: int


def find_gain(
    artifact: Artifact, directory: Path, *, threads: int | None = None, progress: OnProgress = silent
) -> Gain | None:
    """What `artifact` would gain on this processor as int8, by a probe of some seconds that is kept in `directory`.

    The kept figures are those of a processor, a version of ONNX Runtime, a number of threads, a scheme and a geometry.
    None where there is nothing to gain: its weights are not in 4 bits, it is small, or the copy would not fit the free
    memory.

    Raises: MissingExtra, OnnxRuntimeUnfit.
    """
    config, scheme = artifact.manifest.config, artifact.manifest.recipe.scheme
    try:
        formats = derive_recipe(artifact).targets["cpu"]
    except NothingToRequantize:
        return None
    memory, free = estimate_memory(config, formats, rows=BLOCK).total, free_memory()
    if parameter_count(config) < _WORTH or (free is not None and memory > free):
        return None
    processor = describe_machine().rpartition(", load")[0]
    version, geometry = import_onnxruntime().__version__, canonical_json(config.to_dict()).decode()
    conditions = [processor, version, str(threads or default_threads()), scheme, geometry]
    kept = directory / f"{hashlib.sha256(canonical_json(conditions)).hexdigest()[:16]}.json"
    gain = Gain(full=0.0, cached=0.0, memory_bytes=memory, disk_bytes=estimate_bytes(artifact))
    with suppress(DreamEdgeError, OSError, KeyError, TypeError, ValueError):  # not kept yet, or damaged
        found = read_json_object(kept)
        return replace(gain, full=float(found["full"]), cached=float(found["cached"]))
    networks = [Network(config=config, scheme=each, device="cpu") for each in (scheme, "int8")]
    rounds = [probe(networks, threads=threads, progress=progress) for _ in range(_ROUNDS)]
    # what other programs take of the time is not kept
    full = [min(speed.full for speed in same) for same in zip(*rounds, strict=True)]
    cached = [min(speed.cached for speed in same) for same in zip(*rounds, strict=True)]
    gain = replace(gain, full=full[0] / full[1], cached=cached[0] / cached[1])
    with suppress(DreamEdgeError, OSError):  # a cache that cannot be written costs a probe each time
        directory.mkdir(parents=True, exist_ok=True)
        with replace_file(kept) as file:
            file.write(canonical_json({"full": gain.full, "cached": gain.cached}))
    return gain
