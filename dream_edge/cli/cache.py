"""`dream-edge cache`."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from dream_edge_runtime.units import counted, size

from . import options
from .terminal.io import print_json, printable
from .terminal.table import align


def cache(
    remove: Annotated[
        str | None, typer.Option(metavar="KEY|all", help="Delete this copy, or all of them.", show_default=False)
    ] = None,
    json: options.PrintJson = False,
) -> None:
    """List or remove the copies of models that --as-int8 keeps."""
    from dream_edge.models import int8_cache
    from dream_edge_runtime.errors import CacheEntryNotFound

    copies = int8_cache()
    directory, entries = copies.directory, copies.entries()
    if remove is not None:
        entries = [entry for entry in entries if remove in ("all", entry.key)]
        if not entries and remove != "all":
            raise CacheEntryNotFound(remove)
        for entry in entries:
            copies.remove(entry)
    total = sum(entry.size for entry in entries)
    if json:
        listed = [
            {"key": each.key, "artifact": each.artifact, "bytes": each.size, "used": each.used} for each in entries
        ]
        print_json({"directory": str(directory), "bytes": total, "removed": remove is not None, "entries": listed})
    elif remove is not None:
        typer.echo(
            f"Removed {counted(len(entries), 'copy', 'copies')} ({size(total)}) from {printable(str(directory))}."
        )
    elif not entries:
        typer.echo(f"No copies in {printable(str(directory))}.")
    else:
        rows = [("key", "size", "last used", "artifact")]
        rows += [(each.key, size(each.size), _day(each.used), printable(each.artifact)) for each in entries]
        typer.echo("\n".join(align(rows)))
        typer.echo(f"{size(total)} in {printable(str(directory))}. Remove with: dream-edge cache --remove KEY")


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
