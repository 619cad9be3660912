"""`dream-edge chat`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Annotated

import typer

from dream_edge_runtime.errors import DreamEdgeError

from . import options as given
from .conversation import Conversation, Leave, utterances
from .exit_codes import say
from .terminal.io import note


def chat(
    artifact: given.ArtifactArgument,
    max_new_tokens: Annotated[
        int, typer.Option("--max-new-tokens", "-n", metavar="N", min=1, help="Room for each answer, in tokens.")
    ] = 128,
    steps: given.Steps = None,
    alg: given.Alg = None,
    temperature: given.Temperature = None,
    top_p: given.TopP = None,
    top_k: given.TopK = None,
    alg_temp: given.AlgTemp = None,
    eps: given.Eps = None,
    eos_penalty: given.EosPenalty = None,
    seed: given.Seed = None,
    threshold: given.Threshold = None,
    factor: given.Factor = None,
    entropy_bound: given.EntropyBound = None,
    sched: given.Sched = None,
    local_leap: given.LocalLeap = None,
    klass: given.Klass = None,
    block_length: given.BlockLength = None,
    cache: given.Cache = None,
    suffix_window: given.SuffixWindow = None,
    grow_from: given.GrowFrom = None,
    stop_at_end: given.StopAtEnd = False,
    exact: given.Exact = False,
    visual: given.Visual = False,
    threads: given.Threads = None,
    device: given.DeviceChoice = given.Device.AUTO,
    as_int8: given.AsInt8 = False,
    no_memory_check: given.NoMemoryCheck = False,
) -> None:
    """Talk to a model, a line at a time.

    /undo, /retry, /infill, /set, /save, /reset; /help lists them. /exit or the end of input leaves; Ctrl-C stops an
    answer. A line that ends in a backslash goes on.
    """
    settings = given.sampling(
        max_new_tokens=max_new_tokens,
        steps=steps,
        alg=alg,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        alg_temp=alg_temp,
        eps=eps,
        eos_penalty=eos_penalty,
        seed=seed,
        threshold=threshold,
        factor=factor,
        entropy_bound=entropy_bound,
        sched=sched,
        local_leap=local_leap,
        klass=klass,
        block_length=block_length,
        cache=cache,
        suffix_window=suffix_window,
        grow_from=grow_from,
        stop_at_end=stop_at_end or None,
        exact=exact,
    )
    model = given.load_model(
        artifact,
        device=device,
        threads=threads,
        as_int8=as_int8,
        no_memory_check=no_memory_check,
    )
    conversation = Conversation(model, settings, visual)
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
                    _turn(conversation, text)
                note("")
                return
            except KeyboardInterrupt:
                note("\nStopped. /exit leaves.")


def _turn(conversation: Conversation, text: str) -> None:
    try:
        conversation.take(text)
    except DreamEdgeError as error:
        say(error)


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
