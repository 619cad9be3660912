"""`dream-edge pull`, and models on a hub wherever a verb takes a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .terminal.io import note, print_json, size
from .terminal.progress import progress

if TYPE_CHECKING:
    from dream_edge.hub import Kind, Plan, Repository
    from dream_edge_runtime.artifact import Artifact


def pull(
    repo: Annotated[str, typer.Argument(metavar="REPO", help="Name of a model on the hub: owner/name.")],
    revision: Annotated[
        str | None, typer.Option(metavar="NAME", help="Branch, tag or commit.  [default: the main branch]")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Download a checkpoint or an artifact from the Hugging Face hub.

    Into huggingface_hub's cache; only the files that are needed, pinned to a commit, and verified. A download that
    broke off goes on where it stopped. HF_ENDPOINT, HF_HUB_CACHE, HF_TOKEN and HF_HUB_OFFLINE are respected.
    """
    from dream_edge.hub import cached, is_offline, named, source
    from dream_edge_runtime.artifact import Artifact
    from dream_edge_runtime.format.manifest import MANIFEST

    repository = named(repo, revision)
    path = (cached(repository) if is_offline() else None) or _fetched(repository)
    kind, words = "checkpoint", "checkpoint"
    if (path / MANIFEST).is_file():
        artifact = Artifact.open(path)
        read_all(artifact)
        kind, words = "artifact", f"{artifact.manifest.recipe.scheme} artifact, verified"
    origin = source(path) or {}
    stored = sum(file.stat().st_size for file in path.iterdir() if file.is_file())
    if json:
        print_json({**origin, "revision": repository.revision, "kind": kind, "path": str(path), "bytes": stored})
    else:
        typer.echo(f"{path}: {words}, {size(stored)}, {repository.name} at commit {origin.get('commit')}")
    model = str(path if Path(str(repository)).exists() else repository)
    verb = f"generate {model} -p 'Hello!'" if kind == "artifact" else f"export {model} OUT --scheme int4"
    note(f"Next: dream-edge {verb}")


def at_hand(name: str, kind: Kind | None = None) -> str | Path:
    """`name`, or the directory of the model on a hub that it means, fetched with a word to whoever is waiting."""
    from dream_edge.hub import cached
    from dream_edge.models import hub_repository

    repository = hub_repository(name)
    return name if repository is None else cached(repository) or _fetched(repository, kind)


def _fetched(repository: Repository, kind: Kind | None = None) -> Path:
    from dream_edge.hub import fetch, plan

    planned = plan(repository, kind)
    for line in announcement(planned):
        note(line)
    with _counted(f"Downloading {repository.name}", planned.to_fetch) as count:
        return fetch(planned, count)


def announcement(plan: Plan) -> list[str]:
    """What is going to be downloaded, and the room there is for it."""
    found = f"{plan.repository}: {plan.kind} at commit {plan.commit[:12]}, {len(plan.files)} files, {size(plan.size)}"
    if not plan.missing:
        return [f"{found}; all of it is in the cache"]
    arrived = plan.size - plan.to_fetch
    kept = f" ({size(arrived)} are there already)" if arrived else ""
    room = f"{size(plan.free)} are free"
    return [found, f"Downloading {size(plan.to_fetch)}{kept} into {plan.repository.directory}; {room}"]


def read_all(artifact: Artifact) -> None:
    """`Artifact.verify`, with its progress shown."""
    with _counted("Reading", artifact.size) as count:
        artifact.verify(count)


@contextmanager
def _counted(label: str, total: int) -> Iterator[Callable[[int], Any]]:
    """A progress display that is told what was done since the last time."""
    done = 0
    with progress(label, total, size) as advance:

        def count(more: int) -> None:
            nonlocal done
            done += more
            advance(max(0, done))

        yield count
