"""`dream-edge infill`."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Annotated

import typer

from dream_edge_runtime.text.template import Draft

from . import options
from .terminal.run import print_result, watch

if TYPE_CHECKING:
    from dream_edge_runtime.generation.denoising import Denoising


@options.expand_options("max_new_tokens", "stop", "grow_from", "stop_at_end", "thinking")
def infill(
    artifact: options.ArtifactArgument,
    prefix: Annotated[str | None, typer.Option(metavar="TEXT", help="What stands before the hole.")] = None,
    suffix: Annotated[str | None, typer.Option(metavar="TEXT", help="What stands after it.")] = None,
    length: Annotated[int | None, typer.Option(metavar="N", min=1, help="Size of the hole in tokens.")] = None,
    template: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help='Text with holes anywhere, sizes in tokens: "The [[2]] sat on the [[1]]."'),
    ] = None,
    draft: Annotated[
        str | None, typer.Option(metavar="TEXT", help="A text to be checked: what is unlikely in it is written again.")
    ] = None,
    bos: Annotated[bool, typer.Option("--bos", help="Begin with the bos token.")] = False,
    *,
    json_schema: options.JsonSchema = None,
    regex: options.Regex = None,
    choices: options.ChoiceTexts = None,
    settings: options.Settings,
    visual: options.Visual = False,
    json: options.Json = False,
    loading: options.Loading,
) -> None:
    """Fill holes in a text, or check it.

    Give --length or --draft with --prefix and --suffix, or --template. The whole text goes to stdout, holes filled.
    """
    if sum(each is not None for each in (template, length, draft)) != 1:
        raise typer.BadParameter("give one of --length, --draft (both with --prefix and --suffix) and --template")
    if template is not None and (prefix is not None or suffix is not None):
        raise typer.BadParameter("a template holds the whole text: no --prefix, no --suffix", param_hint="--template")
    settings |= options.read_rules(json_schema, regex, choices)
    model = options.load_model(artifact, loading)

    def begin(cancel: threading.Event) -> Denoising:
        if draft is not None:
            checked: list[str | Draft] = [prefix or "", Draft(draft), suffix or ""]
            return model.stream_fill(checked, bos=bos, cancel=cancel, **settings)
        if length is None:
            return model.stream_fill(template or "", bos=bos, cancel=cancel, **settings)
        return model.stream_infill(prefix or "", suffix or "", length, bos=bos, cancel=cancel, **settings)

    generation = watch(begin, model.tokenizer, visual=visual)
    print_result(generation, as_json=json)
