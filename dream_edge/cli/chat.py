"""`dream-edge chat`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress

import typer

from dream_edge_runtime.errors import DreamEdgeError

from . import options
from .conversation import Conversation, Leave, utterances
from .exit_codes import say
from .terminal.io import note


@options.expand_options("stop", "max_hole_tokens")
def chat(
    artifact: options.ArtifactArgument,
    *,
    json_schema: options.JsonSchema = None,
    regex: options.Regex = None,
    choices: options.ChoiceTexts = None,
    settings: options.Settings,
    visual: options.Visual = False,
    json: options.Json = False,
    prefix_cache: options.PrefixCache = None,
    loading: options.Loading,
) -> None:
    """Talk to a model, a line at a time.

    /undo, /retry, /infill, /set, /choices, /regex, /schema, /free, /save, /reset; /help lists them. /exit or the end
    of input leaves; Ctrl-C stops an answer. A line that ends in a backslash goes on.
    """
    rules = options.read_rules(json_schema, regex, choices)
    model = options.load_model(artifact, loading, prefix_cache)
    conversation = Conversation(model, settings, visual, as_json=json)
    if rules:
        conversation.hold(rules)
    if sys.stdin.isatty():
        _talk(conversation)
        return
    with suppress(Leave):
        for text in utterances(line.rstrip("\r\n") for line in sys.stdin):
            conversation.take(text)


def _talk(conversation: Conversation) -> None:
    """At a terminal: an error or Ctrl-C ends the turn, not the program."""
    with suppress(ImportError):
        import readline  # noqa: F401 - input() edits lines and remembers them
    note("/help lists commands, /exit leaves, Ctrl-C stops an answer.")
    with suppress(Leave):
        while True:
            try:
                for text in utterances(_lines()):
                    try:
                        conversation.take(text)
                    except DreamEdgeError as error:
                        say(error)
                note("")
                return
            except KeyboardInterrupt:
                note("\nStopped. /exit leaves.")


def _lines() -> Iterator[str]:
    """What is typed, until the end of input."""
    with suppress(EOFError):
        while True:
            yield _ask()


def _ask() -> str:
    if sys.stdout.isatty():
        return input("> ")
    typer.echo("> ", err=True, nl=False)
    return input()
