"""Progress for --as-int8."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .terminal.io import note, size
from .terminal.progress import progress

if TYPE_CHECKING:
    from pathlib import Path


def requantize_first(
    artifact: str | Path, *, scheme: str | None, device: str, threads: int | None, memory_check: bool
) -> Path:
    """The directory of the copy that `dream_edge.load(..., as_int8=True)` loads; of the artifact itself for a GPU."""
    from dream_edge.models import int8_cache, obtain_int8, resolve_artifact
    from dream_edge_runtime.artifact import Artifact
    from dream_edge_runtime.inference.devices import choose_device
    from dream_edge_runtime.requantize.artifact import estimate_bytes

    opened = Artifact.open(resolve_artifact(artifact, scheme=scheme))
    if choose_device(device, opened.manifest.graphs, opened.path) != "cpu":
        return opened.path
    total, cache = estimate_bytes(opened), int8_cache()
    if cache.find(opened) is None:
        note(f"Keeping an int8 copy of about {size(total)} in {cache.directory}")
    with progress("Writing 8-bit weights", total, size) as advance:
        copy = obtain_int8(opened, threads=threads, memory_check=memory_check, progress=lambda done, _: advance(done))
    return copy.path
