"""`dream-edge cache`."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from .compare import aligned
from .terminal import print_json, printable, size


def cache(
    remove: Annotated[
        str | None, typer.Option(metavar="KEY|all", help="Delete this copy, or all of them.", show_default=False)
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """List or remove the prepacked copies of models that --prepacked keeps."""
    from dream_edge.models import prepacked_cache
    from dream_edge_runtime.errors import CacheEntryNotFound

    kept = prepacked_cache()
    entries = kept.entries()
    if remove is not None:
        entries = [entry for entry in entries if remove in ("all", entry.key)]
        if not entries and remove != "all":
            raise CacheEntryNotFound(remove)
        for entry in entries:
            kept.remove(entry)
    total = sum(entry.size for entry in entries)
    if json:
        listed = [
            {"key": each.key, "artifact": each.artifact, "bytes": each.size, "used": each.used} for each in entries
        ]
        print_json({"directory": str(kept.directory), "bytes": total, "removed": remove is not None, "entries": listed})
    elif remove is not None:
        typer.echo(f"Removed {len(entries)} of {size(total)} from {printable(str(kept.directory))}.")
    elif not entries:
        typer.echo(f"No prepacked copies in {printable(str(kept.directory))}.")
    else:
        rows = [("key", "size", "last used", "artifact")]
        rows += [(each.key, size(each.size), _day(each.used), printable(each.artifact)) for each in entries]
        typer.echo("\n".join(aligned(rows)))
        typer.echo(f"{size(total)} in {printable(str(kept.directory))}. Remove with: dream-edge cache --remove KEY")


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
