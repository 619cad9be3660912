"""`dream-edge verify`."""

from __future__ import annotations

import typer

from dream_edge_runtime.units import counted, size

from . import options
from .terminal.progress import show_progress


def verify(artifact: options.ArtifactArgument) -> None:
    """Check every byte of an artifact.

    Its structure, its graph, and the SHA-256 of each file. Exit code 1 and the reason if anything is wrong.
    """
    import dream_edge
    from dream_edge_runtime.graph.model import GRAPH_REVISION

    with show_progress() as progress:
        found = dream_edge.verify(artifact, progress=progress)
    for entry in found.manifest.files:
        typer.echo(f"ok  {entry.sha256[:16]}  {size(entry.size):>9}  {entry.name}")
    revision = found.manifest.graph_revision
    if revision != GRAPH_REVISION:
        typer.echo(f"not compared: its graphs, of revision {revision}; this release writes and runs {GRAPH_REVISION}")
    typer.echo(f"{found.path} is whole: {counted(len(found.manifest.files), 'file')}, {size(found.size)}.")
