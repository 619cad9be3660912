"""The command line. Each verb is a thin face of a Python function; nothing heavy is imported before a verb runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from io import TextIOWrapper

from dream_edge_runtime.errors import MissingExtra


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `dream-edge` with `arguments`, or with those of this process, and exit."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that lacks a character shows "?"
    if isinstance(sys.stdin, TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")  # what is not text is refused later, in words
    try:
        from .app import app

        app(None if arguments is None else list(arguments), prog_name="dream-edge")
    except ModuleNotFoundError as error:
        if error.name != "typer":
            raise
        sys.exit(f"dream-edge: {MissingExtra('The command line', 'cpu')}")
    except KeyboardInterrupt:  # before a verb runs
        sys.exit(130)
