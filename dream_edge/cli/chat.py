"""`dream-edge chat`."""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dream_edge_runtime.errors import DreamEdgeError

from . import options as given
from .faults import say
from .terminal import note, print_text
from .watch import watch

if TYPE_CHECKING:
    from dream_edge_runtime.chat import Message
    from dream_edge_runtime.model import DreamModel


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
    scheme: given.SchemeChoice = None,
    expand: given.Expand = False,
    prepacked: given.Prepacked = False,
    no_memory_check: given.NoMemoryCheck = False,
) -> None:
    """Talk to a model, a line at a time.

    /reset forgets the conversation; /exit or the end of input leaves; Ctrl-C stops an answer.
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
        scheme=scheme,
        expand=expand,
        prepacked=prepacked,
        no_memory_check=no_memory_check,
    )
    conversation = Conversation(model, settings, visual)
    if sys.stdin.isatty():
        _talk(conversation)
    else:
        for line in sys.stdin:
            if not conversation.take(line.rstrip("\r\n")):
                break


@dataclass
class Conversation:
    """What has been said so far."""

    model: DreamModel
    settings: dict[str, Any]
    visual: bool
    messages: list[Message] = field(default_factory=list)

    def take(self, line: str) -> bool:
        """Do what `line` says: answer it, unless it is a command. False once the user wants to leave.

        A turn that fails or is stopped leaves the conversation as it was.
        """
        match line.strip():
            case "":
                pass
            case "/exit":
                return False
            case "/reset":
                self.messages.clear()
                note("The conversation is forgotten.")
            case _:
                self._answer(line)
        return True

    def _answer(self, text: str) -> None:
        messages: list[Message] = [*self.messages, {"role": "user", "content": text}]
        answer = watch(
            lambda cancel: self.model.stream_chat(messages, cancel=cancel, **self.settings),
            self.model.tokenizer,
            visual=self.visual,
        )
        print_text(answer.text)
        self.messages = [*messages, {"role": "assistant", "content": answer.text}]


def _talk(conversation: Conversation) -> None:
    """At a terminal: an error or Ctrl-C ends the turn, not the program."""
    with suppress(ImportError):
        import readline  # noqa: F401 - input() edits lines and remembers them
    note("/reset forgets the conversation, /exit leaves, Ctrl-C stops an answer.")
    while True:
        try:
            if not conversation.take(_ask()):
                return
        except EOFError:
            note("")
            return
        except KeyboardInterrupt:
            note("\nStopped. /exit leaves.")
        except DreamEdgeError as error:
            say(error)


def _ask() -> str:
    if sys.stdout.isatty():
        return input("> ")
    typer.echo("> ", err=True, nl=False)
    return input()
