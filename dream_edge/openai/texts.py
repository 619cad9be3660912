"""From a checked request to texts that are ready to be denoised."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from dream_edge_runtime.generation.denoising import Denoising
from dream_edge_runtime.generation.results import Generation
from dream_edge_runtime.model import DreamModel
from dream_edge_runtime.text.tokenizer import Tokenizer

from .requests import ChatRequest, CompletionRequest, FillRequest, FimRequest, HolePiece, Sampling, TextPiece
from .response_formats import Chat, Completions, Fim, FinishedText, ResponseFormat
from .text_stream import StableText


@dataclass(frozen=True)
class Job:
    """What a request asks for.

    Attributes:
        texts: not yet begun; they stop within a step of `cancel`.
        format: how they are told.
        stops: strings before which a text ends.
        is_between: whether only the text between two given ones is told.
        before: text that is put before each of them.
    """

    texts: Sequence[Denoising]
    cancel: threading.Event
    format: ResponseFormat
    tokenizer: Tokenizer
    stops: tuple[str, ...] = ()
    is_between: bool = False
    before: str = ""
    stream: bool = False
    diffusing: bool = False
    include_usage: bool = False
    include_cells: bool = False

    def follow(self) -> StableText:
        """Follow one of the texts, step by step."""
        return StableText(self.tokenizer, self.stops, is_hole=self.is_between)

    def finish(self, generation: Generation) -> FinishedText:
        """One of the texts as it is told, and why it ends."""
        text = self.follow().whole(generation)
        is_cut = self.is_between and text != generation.holes[0]
        return FinishedText(self.before + text, "stop" if is_cut else generation.finish_reason, generation)


def prepare_chat(model: DreamModel, request: ChatRequest, served: str) -> Job:
    """An answer to a conversation."""
    turns = [message.turn() for message in request.messages]
    length: dict[str, Any] = {} if request.length is None else {"max_new_tokens": request.length}
    begin = partial(model.stream_chat, turns, stop=request.stops, end_with=request.end_with, **length)
    return _job(model, request, begin, Chat(served))


def prepare_completion(model: DreamModel, request: CompletionRequest, served: str) -> Job:
    """A text after a prompt, or between it and a suffix. Taken raw: no template."""
    prompt, before = request.prefix, request.prefix if request.echo else ""
    if request.suffix:
        begin = partial(model.stream_infill, prompt, request.suffix, request.max_tokens)
        return _job(model, request, begin, Completions(served), is_between=True, before=before)
    told: dict[str, Any] = {"stop": request.stops, "end_with": request.end_with, "max_new_tokens": request.max_tokens}
    return _job(model, request, partial(model.stream, prompt, raw=True, **told), Completions(served), before=before)


def prepare_fim(model: DreamModel, request: FimRequest, served: str, form: type[ResponseFormat] = Fim) -> Job:
    """A text between two others."""
    begin = partial(model.stream_infill, request.prompt, request.suffix, request.max_tokens)
    return _job(model, request, begin, form(served), is_between=True)


def prepare_fill(model: DreamModel, request: FillRequest, served: str) -> Job:
    """A text with holes anywhere."""
    pieces: list[str | int] = []
    for piece in request.pieces:
        if isinstance(piece, HolePiece):
            pieces.append(piece.hole)
        elif isinstance(piece, TextPiece):
            pieces.append(piece.text)
        else:  # as many tokens as the text has that is to be rewritten
            pieces.append(len(model.tokenizer.encode(piece.rewrite)) or "")
    return _job(model, request, partial(model.stream_fill, pieces, bos=request.bos), Completions(served))


def _job(
    model: DreamModel, request: Sampling, begin: Callable[..., Denoising], form: ResponseFormat, **told: Any
) -> Job:
    cancel, extras = threading.Event(), request.stream_options
    seeds = [None if request.seed is None else request.seed + index for index in range(request.n or 1)]
    return Job(
        [begin(cancel=cancel, seed=seed, **request.options()) for seed in seeds],
        cancel,
        form,
        model.tokenizer,
        request.stops,
        stream=bool(request.stream),
        diffusing=request.diffusing,
        include_usage=extras is not None and extras.include_usage,
        include_cells=extras is not None and extras.include_cells,
        **told,
    )
