"""`dream-edge generate`."""

from __future__ import annotations

from typing import Annotated

import typer

from . import options
from .terminal.io import read_stdin
from .terminal.run import print_result, watch


@options.expand_options("max_hole_tokens")
def generate(
    artifact: options.ArtifactArgument,
    prompt: Annotated[
        str, typer.Option("--prompt", "-p", metavar="TEXT", help='What to answer or continue; "-" reads stdin.')
    ],
    end_with: Annotated[
        str, typer.Option(metavar="TEXT", help="Fix the last tokens and write towards them.", show_default=False)
    ] = "",
    raw: Annotated[bool, typer.Option("--raw", help="Continue the prompt as it is, without chat template.")] = False,
    bos: Annotated[bool, typer.Option("--bos", help="With --raw: begin with the bos token.")] = False,
    *,
    json_schema: options.JsonSchema = None,
    regex: options.Regex = None,
    choices: options.ChoiceTexts = None,
    settings: options.Settings,
    visual: options.Visual = False,
    json: options.Json = False,
    loading: options.Loading,
) -> None:
    """Answer a prompt, or continue a text (--raw).

    How tokens are chosen is up to the checkpoint's generation_config.json, but for the options you name. The text goes
    to stdout, progress and statistics to stderr.
    """
    text = prompt
    if prompt == "-":
        text = read_stdin() if raw else read_stdin().removesuffix("\n").removesuffix("\r")
    settings |= options.read_rules(json_schema, regex, choices)
    model = options.load_model(artifact, loading)
    generation = watch(
        lambda cancel: model.stream(text, raw=raw, bos=bos, end_with=end_with, cancel=cancel, **settings),
        model.tokenizer,
        visual=visual,
    )
    print_result(generation, as_json=json)
