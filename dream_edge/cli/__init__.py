"""The command line. Each verb is a thin face of a Python function; nothing heavy is imported before a verb runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from io import TextIOWrapper

from dream_edge_runtime.errors import MissingExtra


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `dream-edge` with `arguments`, or with those of this process, and exit."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # a terminal has its own encoding, and shows "?" for what it lacks; what is not text is refused later
            stream.reconfigure(
                encoding=None if stream.isatty() else "utf-8-sig" if stream is sys.stdin else "utf-8",
                errors="surrogateescape" if stream is sys.stdin else "replace",
            )
    try:
        from .app import app

        app(None if arguments is None else list(arguments), prog_name="dream-edge")
    except ModuleNotFoundError as error:
        if error.name != "typer":
            raise
        sys.exit(f"dream-edge: {MissingExtra('The command line', 'cpu')}")
    except OSError as error:  # of the output: verbs name what else fails
        with suppress(OSError, ValueError):  # what is still buffered would fail once more at the end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(f"dream-edge: cannot write the output: {error.strerror or error}. Make room, or send it elsewhere.")
    except KeyboardInterrupt:  # before a verb runs
        sys.exit(130)
