"""The verbs, put together: how their help is laid out, and what becomes of what they log and raise."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from .batch import batch
from .begin import begin
from .bench import bench
from .cache import cache
from .chat import chat
from .compare import compare
from .demo import demo
from .exit_codes import report_errors
from .export import export
from .generate import generate
from .infill import infill
from .info import info
from .pull import pull
from .recommend import recommend
from .score import score
from .sensitivity import sensitivity
from .serve import serve
from .sweep import sweep
from .terminal.io import log_as_notes
from .verify import verify


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


app: typer.Typer = typer.Typer(
    cls=Verbs,
    add_completion=False,
    rich_markup_mode=None,  # plain help: quick to start, and the same in a pipe
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)

for _verb in (
    generate,
    infill,
    chat,
    serve,
    batch,
    export,
    compare,
    sweep,
    sensitivity,
    score,
    bench,
    info,
    verify,
    recommend,
    pull,
    cache,
    demo,
):
    app.command(cls=VerbWithSections)(_verb)


def _print_version(wanted: bool) -> None:
    if wanted:
        import dream_edge

        typer.echo(f"dream-edge {dream_edge.__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    version: Annotated[  # noqa: ARG001 - it acts when it is read
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Dream, the diffusion language model, quantized and run on this machine.

    Wherever a model is named, "tiny" and "tiny-blocks" are the small ones that come with the package, and owner/name is
    one on the Hugging Face hub. Begin with: dream-edge demo. Which model suits this machine: dream-edge recommend
    """
    if context.invoked_subcommand is None:
        begin()
