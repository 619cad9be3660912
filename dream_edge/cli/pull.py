"""`dream-edge pull`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dream_edge_runtime.units import size

from . import options
from .terminal.io import note, print_json
from .terminal.progress import show_progress


def pull(
    repo: Annotated[str, typer.Argument(metavar="REPO", help="Name of a model on the hub: owner/name.")],
    revision: Annotated[
        str | None, typer.Option(metavar="NAME", help="Branch, tag or commit.  [default: the main branch]")
    ] = None,
    json: options.PrintJson = False,
) -> None:
    """Download a checkpoint or an artifact from the Hugging Face hub.

    Into huggingface_hub's cache; only the files that are needed, pinned to a commit, and verified. A download that
    broke off goes on with the missing files. HF_ENDPOINT, HF_HUB_CACHE, HF_TOKEN and HF_HUB_OFFLINE are respected.
    """
    import dream_edge
    from dream_edge.hub import parse_repository, source
    from dream_edge_runtime.format.manifest import MANIFEST, Manifest

    with show_progress() as progress:
        path = dream_edge.pull(repo, revision, progress=progress)
    repository, origin = parse_repository(repo, revision), source(path) or {}
    is_artifact = (path / MANIFEST).is_file()
    stored = sum(file.stat().st_size for file in path.iterdir() if file.is_file())
    if json:
        kind = "artifact" if is_artifact else "checkpoint"
        print_json({**origin, "revision": repository.revision, "kind": kind, "path": str(path), "bytes": stored})
    else:
        words = f"{Manifest.read(path).recipe.scheme} artifact, verified" if is_artifact else "checkpoint"
        typer.echo(f"{path}: {words}, {size(stored)}, {repository.name} at commit {origin.get('commit')}")
    model = path if Path(str(repository)).exists() else repository
    verb = f"generate {model} -p 'Hello!'" if is_artifact else f"export {model} OUT --scheme int4"
    note(f"Next: dream-edge {verb}")
