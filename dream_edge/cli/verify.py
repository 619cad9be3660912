"""`dream-edge verify`."""

from __future__ import annotations

import typer

from . import options as given
from .pull import at_hand, read_all
from .terminal.io import size


def verify(artifact: given.ArtifactArgument, scheme: given.SchemeChoice = None) -> None:
    """Check every byte of an artifact.

    Its structure, its graph, and the SHA-256 of each file. Exit code 1 and the reason if anything is wrong.
    """
    from dream_edge import resolve_artifact
    from dream_edge.hub import Kind
    from dream_edge_runtime.artifact import Artifact

    opened = Artifact.open(resolve_artifact(at_hand(artifact, Kind.ARTIFACT), scheme=scheme and scheme.value))
    read_all(opened)
    for entry in opened.manifest.files:
        typer.echo(f"ok  {entry.sha256[:16]}  {size(entry.size):>9}  {entry.name}")
    typer.echo(f"{opened.path} is whole: {len(opened.manifest.files)} files, {size(opened.size)}.")
