"""From exceptions to one line on stderr and an exit code: 1 for errors, 2 for usage, 130 for Ctrl-C."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer

from dream_edge.door import SystemRefusal
from dream_edge_runtime.errors import Cancelled, DreamEdgeError, InvalidOption
from dream_edge_runtime.generation.config import OPTIONS

from .begin import WHICH

FAILED, USAGE, INTERRUPTED = 1, 2, 130
UsageError: Any = typer.BadParameter.__base__  # Typer has no public name for it

_MODELS = ("artifact", "artifacts", "checkpoint", "model")  # arguments that name one
_FLAGS = {"allowed_origins": "--allow-origin", "algorithms": "--algorithm"}
"""Options whose name is not that of the field they set, besides those of a generation."""


@contextmanager
def report_errors() -> Iterator[None]:
    """Turn what a verb raises into a line and an exit code. A value that an option cannot have is a usage error."""
    try:
        yield
    except UsageError as error:
        command = f" See {error.ctx.command_path} --help." if error.ctx else ""
        missing = getattr(error, "param", None) if type(error).__name__ == "MissingParameter" else None
        which = f" {WHICH}" if missing is not None and missing.name in _MODELS else ""
        say(f"{error.format_message().rstrip('.')}.{command}{which}")
        raise typer.Exit(USAGE) from None
    except InvalidOption as error:
        say(_as_flag(error))
        raise typer.Exit(USAGE) from None
    except (KeyboardInterrupt, Cancelled):
        typer.echo("Stopped.", err=True)
        raise typer.Exit(INTERRUPTED) from None
    except DreamEdgeError as error:
        say(error)
        raise typer.Exit(FAILED) from None
    except OSError as error:
        if not error.filename:  # of the output
            raise
        say(SystemRefusal(error))
        raise typer.Exit(FAILED) from None


def say(message: object) -> None:
    typer.echo(f"dream-edge: {one_line(str(message))}", err=True)


def _as_flag(error: InvalidOption) -> str:
    """`error` with the name that the option has on the command line."""
    declared = OPTIONS.get(error.name)
    flag = _FLAGS.get(error.name, "--" + error.name.replace("_", "-"))
    flag = "/".join(reversed(declared.flags)) if declared and declared.flags else flag
    return f"{flag}: {error.requirement}" if error.value is None else f"{flag} {error.shown}: {error.requirement}"


def one_line(message: str) -> str:
    """`message` with line ends and other control characters spelt out, since names and texts may hold any."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in message)
