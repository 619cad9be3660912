"""How help is laid out, and what becomes of errors: the classes that Typer builds its commands from."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperGroup

from .exit_codes import report_errors
from .terminal.io import log_as_notes


class Verbs(TyperGroup):
    """The program: what verbs log goes to stderr, and an error that leaves one ends in one line and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        with report_errors(), log_as_notes():
            return super().invoke(ctx)


class VerbWithSections(TyperCommand):
    """A verb whose options are listed under their `rich_help_panel`, without needing rich."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return [piece.strip("{}").replace("...}...", "...") for piece in super().collect_usage_pieces(ctx)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                is_argument = parameter.param_type_name == "argument"
                panel = "Arguments" if is_argument else getattr(parameter, "rich_help_panel", None) or "Options"
                name = record[0].split(" <")[0] if is_argument else record[0]
                sections.setdefault(panel, []).append((name, record[1]))
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)
