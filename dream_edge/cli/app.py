"""The verbs, put together."""

from __future__ import annotations

from typing import Annotated

import typer

from .batch import batch
from .bench import bench
from .cache import cache
from .chat import chat
from .compare import compare
from .demo import demo
from .export import export
from .generate import generate
from .help import Verbs, VerbWithSections
from .infill import infill
from .info import info
from .pull import pull
from .sensitivity import sensitivity
from .serve import serve
from .sweep import sweep
from .verify import verify

app: typer.Typer = typer.Typer(
    cls=Verbs,
    no_args_is_help=True,
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
    bench,
    info,
    verify,
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


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Dream, the diffusion language model, quantized and run on this machine.

    Wherever a model is named, "tiny" is the small one that comes with the package, and owner/name is one on the Hugging
    Face hub. Begin with: dream-edge demo
    """
