"""How routes word their answers: OpenAI's chat and completions, fill-in-the-middle, and llama.cpp's infill."""

from __future__ import annotations

import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from dream_edge_runtime.generation.results import Generation, Step

from .answer import Said
from .errors import RequestRefused
from .text_stream import Cell

Json = dict[str, Any]


@dataclass(frozen=True)
class FinishedText:
    """One text of an answer, complete."""

    said: Said
    reason: str
    generation: Generation
    prompt: int = 0
    """Which of the request's prompts it follows."""
    logprobs: list[Json] | None = None

    @property
    def text(self) -> str:
        return self.said.content


@dataclass(frozen=True)
class ResponseFormat(ABC):
    """The words of one route for one request. What a stream says is one event after the other."""

    model: str
    ignored: tuple[str, ...] = field(default=(), kw_only=True)
    """Fields of the request that have no effect."""
    last_line = b""
    """What ends a stream."""

    def opening(self, index: int, prompt_tokens: int) -> Iterable[Json]:
        """What a stream begins text `index` with."""
        return ()

    @abstractmethod
    def chunk(self, index: int, said: Said, diffusion: Json | None = None) -> Iterable[Json]:
        """A piece of text `index`, or with `diffusion` all of it so far."""

    @abstractmethod
    def closing(self, index: int, said: Said, finished: FinishedText) -> Iterable[Json]:
        """The last piece of text `index`."""

    def usage(self, texts: Sequence[FinishedText]) -> Iterable[Json]:
        """What closes a stream whose usage was asked for."""
        return ()

    def failure(self, refused: RequestRefused) -> Json:
        """What a stream that fails ends with."""
        return refused.body()

    @abstractmethod
    def whole(self, texts: Sequence[FinishedText]) -> Json:
        """The answer that is not streamed."""

    def summarize(self, texts: Sequence[FinishedText]) -> Json:
        """How the texts came about: steps, forward passes, seconds; and what of the request had no effect."""
        made = [each.generation for each in texts]
        seconds, new = sum(each.seconds for each in made), sum(each.new_tokens for each in made)
        return {
            "steps": sum(each.steps for each in made),
            "passes": sum(each.passes for each in made),
            "seconds": seconds,
            "tokens_per_second": new / seconds if seconds > 0 else 0.0,
            "seed": made[0].seed,
        } | ({"ignored": [*self.ignored]} if self.ignored else {})


@dataclass(frozen=True)
class Completions(ResponseFormat):
    """POST /v1/completions, and what OpenAI's formats share."""

    id: str = field(default_factory=lambda: secrets.token_hex(12))
    created: int = field(default_factory=lambda: int(time.time()))
    prefix = "cmpl-"
    whole_object = "text_completion"
    chunk_object = "text_completion"
    last_line = b"data: [DONE]\n\n"

    def choice(self, said: Said) -> Json:
        """The part of a finished choice that holds its text."""
        return {"text": said.content}

    def delta(self, said: Said) -> Json:
        """The part of a streamed choice that holds a piece."""
        return self.choice(said)

    def chunk(self, index: int, said: Said, diffusion: Json | None = None) -> Iterable[Json]:
        more = {} if diffusion is None else {"diffusion": diffusion}
        return [self._chunk([_choice(index, self.delta(said), None)], more)]

    def closing(self, index: int, said: Said, finished: FinishedText) -> Iterable[Json]:
        choice = self.finished_choice(index, self.delta(said), finished)
        return [self._chunk([choice], {"diffusion": self.summarize([finished])})]

    def finished_choice(self, index: int, text: Json, finished: FinishedText) -> Json:
        """A choice that is complete, with its `text`."""
        return _choice(index, text, finished.reason, finished.logprobs)

    def usage(self, texts: Sequence[FinishedText]) -> Iterable[Json]:
        return [self._chunk([], {"usage": count_tokens(texts)})]

    def whole(self, texts: Sequence[FinishedText]) -> Json:
        choices = [self.finished_choice(index, self.choice(each.said), each) for index, each in enumerate(texts)]
        told = {"choices": choices, "usage": count_tokens(texts), "diffusion": self.summarize(texts)}
        return self._head(self.whole_object) | told

    def _head(self, kind: str) -> Json:
        return {"id": self.prefix + self.id, "object": kind, "created": self.created, "model": self.model}

    def _chunk(self, choices: list[Json], more: Json) -> Json:
        return self._head(self.chunk_object) | {"choices": choices} | more


@dataclass(frozen=True)
class Fill(Completions):
    """POST /v1/fill: a completion that tells where the text is not what was given."""

    def finished_choice(self, index: int, text: Json, finished: FinishedText) -> Json:
        changes = [asdict(change) for change in finished.generation.changes]
        return super().finished_choice(index, text, finished) | {"changes": changes}


@dataclass(frozen=True)
class Chat(Completions):
    """POST /v1/chat/completions"""

    prefix = "chatcmpl-"
    whole_object = "chat.completion"
    chunk_object = "chat.completion.chunk"

    def choice(self, said: Said) -> Json:
        content = None if said.calls and not said.content else said.content
        return {"message": {"role": "assistant", "content": content} | self._more(said)}

    def delta(self, said: Said) -> Json:
        return {"delta": ({"content": said.content} if said.content else {}) | self._more(said, streamed=True)}

    def _more(self, said: Said, *, streamed: bool = False) -> Json:
        """What a message has besides its content."""
        more: Json = {"reasoning_content": said.thoughts} if said.thoughts else {}
        if said.calls:
            more["tool_calls"] = [
                ({"index": at} if streamed else {})
                | {"id": f"call_{secrets.token_hex(12)}", "type": "function"}
                | {"function": {"name": call.name, "arguments": call.arguments}}
                for at, call in enumerate(said.calls, said.calls_before)
            ]
        return more

    def opening(self, index: int, prompt_tokens: int) -> Iterable[Json]:
        return [self._chunk([_choice(index, {"delta": {"role": "assistant", "content": ""}}, None)], {})]


@dataclass(frozen=True)
class Fim(Chat):
    """POST /v1/fim/completions: a message as Mistral has it, and the text as completions have it."""

    prefix = "fim-"

    def choice(self, said: Said) -> Json:
        return {**super().choice(said), "text": said.content}

    def delta(self, said: Said) -> Json:
        return {**super().delta(said), "text": said.content}


@dataclass(frozen=True)
class LlamaInfill(ResponseFormat):
    """POST /infill"""

    def chunk(self, index: int, said: Said, diffusion: Json | None = None) -> Iterable[Json]:
        return [{"index": index, "content": said.content, "stop": False}]

    def closing(self, index: int, said: Said, finished: FinishedText) -> Iterable[Json]:
        return [self._close(index, said, finished)]

    def whole(self, texts: Sequence[FinishedText]) -> Json:
        return self._close(0, texts[0].said, texts[0])

    def _close(self, index: int, said: Said, finished: FinishedText) -> Json:
        made = finished.generation
        return {
            "index": index,
            "content": said.content,
            "stop": True,
            "model": self.model,
            "stop_type": "word" if finished.reason == "stop" else "limit",
            "tokens_predicted": made.new_tokens,
            "tokens_evaluated": made.prompt_tokens,
            "tokens_cached": made.cached_tokens,
            "timings": {
                "predicted_n": made.new_tokens,
                "predicted_ms": 1e3 * made.seconds,
                "predicted_per_second": made.tokens_per_second,
            },
        }

    def empty(self) -> Json:
        """The answer to zero tokens, by which editors fill a cache that does not exist here."""
        counts = {"tokens_predicted": 0, "tokens_evaluated": 0}
        return {"index": 0, "content": "", "stop": True, "model": self.model, **counts}


def count_tokens(texts: Sequence[FinishedText]) -> Json:
    """OpenAI's usage: what was given, each prompt once, and everything that was kept of what was generated."""
    first = {each.prompt: each.generation for each in reversed(texts)}.values()
    given, new = sum(each.prompt_tokens for each in first), sum(each.generation.new_tokens for each in texts)
    return {
        "prompt_tokens": given,
        "completion_tokens": new,
        "total_tokens": given + new,
        "prompt_tokens_details": {"cached_tokens": sum(each.cached_tokens for each in first)},
    }


def describe_step(step: Step, cells: Sequence[Cell] | None) -> Json:
    """How far a text is, and its cells if they were asked for."""
    found: Json = {"step": step.index, "steps": step.steps, "progress": step.progress}
    return found if cells is None else found | {"cells": cells}


def _choice(index: int, text: Json, reason: str | None, logprobs: list[Json] | None = None) -> Json:
    told = None if logprobs is None else {"content": logprobs, "refusal": None}
    return {"index": index, **text, "logprobs": told, "finish_reason": reason}
