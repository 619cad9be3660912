"""From a checked request to texts that are ready to be denoised."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dream_edge_runtime.generation.denoising import Denoising
from dream_edge_runtime.generation.results import Generation
from dream_edge_runtime.model import DreamModel
from dream_edge_runtime.text.tokenizer import Tokenizer

from .requests import (
    ChatRequest,
    CompletionRequest,
    FillRequest,
    FimRequest,
    Given,
    Hole,
    InfillRequest,
    Rewritten,
    Sampling,
)
from .response_formats import Chat, Completions, Dialect, Fim, Finished, LlamaInfill
from .text_stream import StableText


@dataclass(frozen=True)
class Asked:
    """What a request asks for.

    Attributes:
        texts: not yet begun; they stop within a step of `cancel`.
        stops: strings before which a text ends.
        is_between: whether only what stands between two given texts is told.
        before: text that is put before each of them.
    """

    texts: Sequence[Denoising]
    cancel: threading.Event
    dialect: Dialect
    tokenizer: Tokenizer
    stops: tuple[str, ...] = ()
    is_between: bool = False
    before: str = ""
    stream: bool = False
    diffusing: bool = False
    include_usage: bool = False
    include_cells: bool = False

    def follow(self) -> StableText:
        """What follows one of the texts, step by step."""
        return StableText(self.tokenizer, self.stops, is_hole=self.is_between)

    def finish(self, generation: Generation) -> Finished:
        """One of the texts as it is told, and why it ends."""
        text = self.follow().whole(generation)
        is_cut = self.is_between and text != generation.holes[0]
        return Finished(self.before + text, "stop" if is_cut else generation.finish_reason, generation)


def chat(model: DreamModel, request: ChatRequest, served: str) -> Asked:
    """An answer to a conversation."""
    cancel, turns = threading.Event(), [message.turn() for message in request.messages]
    length: dict[str, Any] = {} if request.length is None else {"max_new_tokens": request.length}
    texts = [
        model.stream_chat(
            turns,
            cancel=cancel,
            seed=seed,
            stop=request.stops,
            end_with=request.end_with,
            **length,
            **request.options(),
        )
        for seed in _seeds(request)
    ]
    return _asked(model, request, texts, cancel, Chat(served))


def completion(model: DreamModel, request: CompletionRequest, served: str) -> Asked:
    """A text after a prompt, or between it and a suffix. Taken raw: no template."""
    if request.suffix:
        return _between(model, request, request.prefix, request.suffix, request.max_tokens, Completions(served))
    cancel = threading.Event()
    texts = [
        model.stream(
            request.prefix,
            raw=True,
            cancel=cancel,
            seed=seed,
            stop=request.stops,
            max_new_tokens=request.max_tokens,
            end_with=request.end_with,
            **request.options(),
        )
        for seed in _seeds(request)
    ]
    before = request.prefix if request.echo else ""
    return _asked(model, request, texts, cancel, Completions(served), before=before)


def fim(model: DreamModel, request: FimRequest, served: str) -> Asked:
    """A text between two others."""
    return _between(model, request, request.prompt, request.suffix, request.max_tokens, Fim(served))


def infill(model: DreamModel, request: InfillRequest, served: str) -> Asked:
    """The same, for llama.cpp's clients."""
    asked = request.as_fim()
    return _between(model, asked, asked.prompt, asked.suffix, asked.max_tokens, LlamaInfill(served))


def fill(model: DreamModel, request: FillRequest, served: str) -> Asked:
    """A text with holes anywhere."""
    cancel = threading.Event()
    pieces = [_piece(model, each) for each in request.pieces]
    texts = [
        model.stream_fill(pieces, bos=request.bos, cancel=cancel, seed=seed, **request.options())
        for seed in _seeds(request)
    ]
    return _asked(model, request, texts, cancel, Completions(served))


def _piece(model: DreamModel, piece: Given | Hole | Rewritten) -> str | int:
    if isinstance(piece, Hole):
        return piece.hole
    return piece.text if isinstance(piece, Given) else len(model.tokenizer.encode(piece.rewrite)) or ""


def _between(model: DreamModel, request: Sampling, prefix: str, suffix: str, length: int, dialect: Dialect) -> Asked:
    cancel = threading.Event()
    texts = [
        model.stream_infill(prefix, suffix, length, cancel=cancel, seed=seed, **request.options())
        for seed in _seeds(request)
    ]
    before = prefix if isinstance(request, CompletionRequest) and request.echo else ""
    return _asked(model, request, texts, cancel, dialect, is_between=True, before=before)


def _asked(
    model: DreamModel,
    request: Sampling,
    texts: Sequence[Denoising],
    cancel: threading.Event,
    dialect: Dialect,
    *,
    is_between: bool = False,
    before: str = "",
) -> Asked:
    extras = request.stream_options
    return Asked(
        texts,
        cancel,
        dialect,
        model.tokenizer,
        request.stops,
        is_between,
        before,
        stream=bool(request.stream),
        diffusing=request.diffusing,
        include_usage=extras is not None and extras.include_usage,
        include_cells=extras is not None and extras.include_cells,
    )


def _seeds(request: Sampling) -> list[int | None]:
    return [None if request.seed is None else request.seed + index for index in range(request.texts)]
