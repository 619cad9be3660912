"""What `dream-edge` says by itself: which models are here, and what to do next."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import typer

from dream_edge_runtime.errors import DreamEdgeError
from dream_edge_runtime.format.manifest import MANIFEST, Manifest

from .terminal.io import printable

WHICH = "`dream-edge recommend` says which model suits this machine, and `tiny` is one that is here."
"""For a verb without a model."""


def begin() -> None:
    """Print the models that are here, and the first commands."""
    bundled = [("tiny", "comes with the package"), ("tiny-blocks", "the same, block by block")]
    models = [*bundled, *find_models()]
    width = max(len(name) for name, _ in models)
    lines = [
        "dream-edge runs diffusion language models on this machine. Here are:",
        *(f"  {name:<{width}}  {what}" for name, what in models),
        "",
        "Which published model suits this machine:  dream-edge recommend",
        "See the tiny one at work:                  dream-edge demo",
        "All commands:                              dream-edge --help",
    ]
    typer.echo(printable("\n".join(lines)))


def find_models() -> Iterator[tuple[str, str]]:
    """Name and kind of each artifact in this directory and the hub's cache, and of published checkpoints there."""
    from dream_edge.hub import Repository, find_cached
    from dream_edge.hub.cache import cache_directory, source
    from dream_edge.recommendation.published import PUBLISHED

    places = sorted(Path().glob(f"*/{MANIFEST}"))
    with suppress(DreamEdgeError, OSError):  # there is no cache, or it cannot be read
        places += sorted(cache_directory().glob(f"models--*/snapshots/*/{MANIFEST}"))
        for model in PUBLISHED:
            if (path := find_cached(Repository(model.repository))) and not (path / MANIFEST).exists():
                yield model.repository, "checkpoint: export it"
    for place in places:
        with suppress(DreamEdgeError, OSError):  # another program's
            scheme, origin = Manifest.read(place.parent).recipe.scheme, source(place.parent)
            yield (origin["repository"] if origin else place.parent.name), f"{scheme} artifact"
