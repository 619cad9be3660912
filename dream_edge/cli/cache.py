"""`dream-edge cache`."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from .terminal.io import aligned, print_json, printable, size


def cache(
    remove: Annotated[
        str | None, typer.Option(metavar="KEY|all", help="Delete this copy, or all of them.", show_default=False)
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """List or remove the copies of models that --prepacked and --expand keep."""
    from dream_edge.models import cache_directory, expanded_cache, prepacked_cache
    from dream_edge_runtime.errors import CacheEntryNotFound

    directory = cache_directory()
    kept = {"prepacked": prepacked_cache(), "expanded": expanded_cache()}
    entries = [(kind, entry) for kind, copies in kept.items() for entry in copies.entries()]
    entries.sort(key=lambda pair: -pair[1].used)
    if remove is not None:
        entries = [(kind, entry) for kind, entry in entries if remove in ("all", entry.key)]
        if not entries and remove != "all":
            raise CacheEntryNotFound(remove)
        for kind, entry in entries:
            kept[kind].remove(entry)
    total = sum(entry.size for _, entry in entries)
    if json:
        listed = [
            {"key": each.key, "kind": kind, "artifact": each.artifact, "bytes": each.size, "used": each.used}
            for kind, each in entries
        ]
        print_json({"directory": str(directory), "bytes": total, "removed": remove is not None, "entries": listed})
    elif remove is not None:
        typer.echo(f"Removed {len(entries)} of {size(total)} from {printable(str(directory))}.")
    elif not entries:
        typer.echo(f"No copies in {printable(str(directory))}.")
    else:
        rows = [("key", "kind", "size", "last used", "artifact")]
        rows += [(each.key, kind, size(each.size), _day(each.used), printable(each.artifact)) for kind, each in entries]
        typer.echo("\n".join(aligned(rows)))
        typer.echo(f"{size(total)} in {printable(str(directory))}. Remove with: dream-edge cache --remove KEY")


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
