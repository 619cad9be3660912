"""`optimum-cli export dream-edge`, for people who live in Optimum: `dream-edge export` with the checkpoint as -m.

Optimum loads every module of this namespace when its command line starts, so it must stay light and work whatever else
of dream-edge is installed. No directory on the way here may hold an __init__.py: they are shared with Optimum's.
"""

from __future__ import annotations

from argparse import ArgumentParser

from optimum.commands.base import BaseOptimumCLICommand, CommandInfo
from optimum.commands.export.base import ExportCommand


class DreamEdgeExportCommand(BaseOptimumCLICommand):  # type: ignore[misc]  # Optimum has no types
    """`dream-edge export` by another name."""

    COMMAND = CommandInfo(name="dream-edge", help="Export a Dream diffusion language model, quantized to 4 or 8 bits.")

    @staticmethod
    def parse_args(parser: ArgumentParser) -> None:
        parser.prefix_chars = ""  # every word is kept as it is, for dream-edge to judge
        parser.add_argument("words", nargs="*")

    def run(self) -> None:
        from dream_edge.cli import main

        parser = ArgumentParser(add_help=False, allow_abbrev=False)
        parser.add_argument("-m", "--model")
        given, words = parser.parse_known_args(self.args.words)
        main(["export", *([given.model] if given.model else []), *words])


REGISTER_COMMANDS = iter([(DreamEdgeExportCommand, ExportCommand)])
"""To be read once: Optimum reads it for each directory of this namespace, and a second dream-edge on the path (a
checkout beside an installed one) would register the command twice, which ends Optimum's command line."""
