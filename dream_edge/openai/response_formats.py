"""How each route words its answers: OpenAI's chat and completions, fill-in-the-middle, and llama.cpp's infill."""

from __future__ import annotations

import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from dream_edge_runtime.generation.results import Generation, Step

from .text_stream import Cell

Json = dict[str, Any]


@dataclass(frozen=True)
class FinishedText:
    """One text of an answer, complete."""

    text: str
    reason: str
    generation: Generation


@dataclass(frozen=True)
class ResponseFormat(ABC):
    """The words of one route for one request."""

    model: str
    last_line = b""
    """What ends a stream."""

    def opening(self, index: int) -> Json | None:
        """What a stream begins text `index` with, if anything."""
        return None

    @abstractmethod
    def chunk(self, index: int, text: str, diffusion: Json | None = None) -> Json:
        """A piece of text `index`, or with `diffusion` all of it so far."""

    @abstractmethod
    def closing(self, index: int, text: str, finished: FinishedText) -> Json:
        """The last piece of text `index`."""

    def usage(self, texts: Sequence[FinishedText]) -> Json | None:
        """The chunk that closes a stream whose usage was asked for."""
        return None

    @abstractmethod
    def whole(self, texts: Sequence[FinishedText]) -> Json:
        """The answer that is not streamed."""


@dataclass(frozen=True)
class Completions(ResponseFormat):
    """POST /v1/completions, and what OpenAI's formats share."""

    id: str = field(default_factory=lambda: secrets.token_hex(12))
    created: int = field(default_factory=lambda: int(time.time()))
    prefix = "cmpl-"
    whole_object = "text_completion"
    chunk_object = "text_completion"
    last_line = b"data: [DONE]\n\n"

    def choice(self, text: str) -> Json:
        """The part of a finished choice that holds its text."""
        return {"text": text}

    def delta(self, text: str) -> Json:
        """The part of a streamed choice that holds a piece."""
        return self.choice(text)

    def chunk(self, index: int, text: str, diffusion: Json | None = None) -> Json:
        more = {} if diffusion is None else {"diffusion": diffusion}
        return self._chunk([_choice(index, self.delta(text), None)], more)

    def closing(self, index: int, text: str, finished: FinishedText) -> Json:
        choice = _choice(index, self.delta(text), finished.reason)
        return self._chunk([choice], {"diffusion": summarize([finished])})

    def usage(self, texts: Sequence[FinishedText]) -> Json | None:
        return self._chunk([], {"usage": count_tokens(texts)})

    def whole(self, texts: Sequence[FinishedText]) -> Json:
        choices = [_choice(index, self.choice(each.text), each.reason) for index, each in enumerate(texts)]
        told = {"choices": choices, "usage": count_tokens(texts), "diffusion": summarize(texts)}
        return self._head(self.whole_object) | told

    def _head(self, kind: str) -> Json:
        return {"id": self.prefix + self.id, "object": kind, "created": self.created, "model": self.model}

    def _chunk(self, choices: list[Json], more: Json) -> Json:
        return self._head(self.chunk_object) | {"choices": choices} | more


@dataclass(frozen=True)
class Chat(Completions):
    """POST /v1/chat/completions"""

    prefix = "chatcmpl-"
    whole_object = "chat.completion"
    chunk_object = "chat.completion.chunk"

    def choice(self, text: str) -> Json:
        return {"message": {"role": "assistant", "content": text}}

    def delta(self, text: str) -> Json:
        return {"delta": {"content": text} if text else {}}

    def opening(self, index: int) -> Json | None:
        return self._chunk([_choice(index, {"delta": {"role": "assistant", "content": ""}}, None)], {})


@dataclass(frozen=True)
class Fim(Chat):
    """POST /v1/fim/completions: a message as Mistral has it, and the text as completions have it."""

    prefix = "fim-"

    def choice(self, text: str) -> Json:
        return {**super().choice(text), "text": text}

    def delta(self, text: str) -> Json:
        return {**super().delta(text), "text": text}


@dataclass(frozen=True)
class LlamaInfill(ResponseFormat):
    """POST /infill"""

    def chunk(self, index: int, text: str, diffusion: Json | None = None) -> Json:
        return {"index": index, "content": text, "stop": False}

    def closing(self, index: int, text: str, finished: FinishedText) -> Json:
        made = finished.generation
        return {
            "index": index,
            "content": text,
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

    def whole(self, texts: Sequence[FinishedText]) -> Json:
        return self.closing(0, texts[0].text, texts[0])

    def empty(self) -> Json:
        """The answer to zero tokens, by which editors fill a cache that does not exist here."""
        counts = {"tokens_predicted": 0, "tokens_evaluated": 0}
        return {"index": 0, "content": "", "stop": True, "model": self.model, **counts}


def count_tokens(texts: Sequence[FinishedText]) -> Json:
    """OpenAI's usage: what was given, counted once, and everything that was kept of what was generated."""
    first, new = texts[0].generation, sum(each.generation.new_tokens for each in texts)
    return {
        "prompt_tokens": first.prompt_tokens,
        "completion_tokens": new,
        "total_tokens": first.prompt_tokens + new,
        "prompt_tokens_details": {"cached_tokens": first.cached_tokens},
    }


def summarize(texts: Sequence[FinishedText]) -> Json:
    """How the texts came about: steps, forward passes, seconds."""
    made = [each.generation for each in texts]
    seconds, new = sum(each.seconds for each in made), sum(each.new_tokens for each in made)
    return {
        "steps": sum(each.steps for each in made),
        "passes": sum(each.passes for each in made),
        "seconds": seconds,
        "tokens_per_second": new / seconds if seconds > 0 else 0.0,
        "seed": made[0].seed,
    }


def describe_step(step: Step, cells: Sequence[Cell] | None) -> Json:
    """How far a text is, and its cells if they were asked for."""
    found: Json = {"step": step.index, "steps": step.steps, "progress": step.progress}
    return found if cells is None else found | {"cells": cells}


def _choice(index: int, text: Json, reason: str | None) -> Json:
    return {"index": index, **text, "logprobs": None, "finish_reason": reason}
