"""The options of `dream-edge export` for a parser of argparse's, and the way back."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give `parser` the arguments of `dream-edge export`, the checkpoint as -m/--model, as Optimum has it.

    Without the libraries of the command line there is only the checkpoint: `run` then says what to install.
    """
    parser.add_argument("-m", "--model", required=True, metavar="CHECKPOINT", help=_CHECKPOINT)
    parser.set_defaults(passed=[], places=[])
    try:
        command = _export_command()
    except ImportError:
        parser.add_argument("passed", nargs=argparse.REMAINDER)
        return
    context = command.make_context("export", [], resilient_parsing=True)
    for parameter in command.params:
        if parameter.name == "checkpoint":
            continue
        shown, text = parameter.get_help_record(context)
        text = text.replace("%", "%%")
        if parameter.param_type_name == "argument":
            parser.add_argument(parameter.name, action=_Pass, metavar=parameter.metavar, help=text)
            continue
        metavar = shown.partition(" ")[2].strip("<>")
        for number, name in enumerate([*parameter.opts, *parameter.secondary_opts]):
            takes: dict[str, Any] = {"nargs": 0} if parameter.is_flag else {"metavar": metavar}
            described = text if number == 0 else f"The opposite of {parameter.opts[0]}."
            parser.add_argument(
                name, action=_Pass, dest=argparse.SUPPRESS, required=parameter.required, help=described, **takes
            )


def run(arguments: argparse.Namespace) -> None:
    """`dream-edge export` with what was parsed; exits as it does."""
    from . import main

    main(["export", *arguments.passed, "--", arguments.model, *arguments.places])


_CHECKPOINT = "A Dream checkpoint: directory, owner/name on the hub, or tiny."


class _Pass(argparse.Action):
    """Collects options as they were written, to be judged by the command itself."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        if option_string is None:
            namespace.places = [values]
        else:
            namespace.passed = [*namespace.passed, option_string, *([] if self.nargs == 0 else [values])]


def _export_command() -> Any:
    from typer.main import get_command

    from .app import app

    command: Any = get_command(app)
    return command.commands["export"]
