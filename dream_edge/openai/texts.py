"""From a checked request to texts that are ready to be denoised."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from dream_edge_runtime.generation.denoising import Denoising
from dream_edge_runtime.generation.results import Generation
from dream_edge_runtime.model import DreamModel
from dream_edge_runtime.text.template import Draft, Hole
from dream_edge_runtime.text.tokenizer import Tokenizer

from .answer import AnswerReader, AnswerStream
from .conversation import CALL_BEGIN, list_turns, schema_of_calls
from .logits import LogitWatch
from .requests import (
    ChatRequest,
    CompletionRequest,
    DraftPiece,
    FillRequest,
    FimRequest,
    HolePiece,
    Sampling,
    StreamOptions,
    TextPiece,
)
from .response_formats import Chat, Completions, Fill, Fim, FinishedText, ResponseFormat
from .text_stream import StableText


@dataclass(frozen=True)
class PreparedText:
    """One text that a request asks for.

    Attributes:
        denoising: not yet begun.
        before: text that is put before it.
        prompt: which of the request's prompts it follows.
    """

    denoising: Denoising
    watch: LogitWatch
    before: str = ""
    prompt: int = 0


@dataclass(frozen=True)
class Job:
    """What a request asks for.

    Attributes:
        texts: they stop within a step of `cancel`.
        format: how they are told.
        reader: how what they say is read.
        stops: strings before which a text ends.
        is_between: whether only the text between two given ones is told.
        shows: what a stream carries besides the text.
        matches: whether they match what was asked, and so are complete even where they take all of the room.
    """

    texts: Sequence[PreparedText]
    cancel: threading.Event
    format: ResponseFormat
    reader: AnswerReader = AnswerReader()  # noqa: RUF009 - frozen, so it can be shared
    stops: tuple[str, ...] = ()
    is_between: bool = False
    matches: bool = False
    stream: bool = False
    diffusing: bool = False
    shows: StreamOptions = field(default_factory=StreamOptions)

    def follow(self) -> StableText:
        """Follow one of the texts, step by step."""
        return StableText(self.stops, is_hole=self.is_between)

    def listen(self) -> AnswerStream:
        """Follow what one of the texts says, piece by piece."""
        return AnswerStream(self.reader)

    def finish(self, index: int, generation: Generation) -> FinishedText:
        """The text `index` as it is told, and why it ends."""
        text, asked = self.follow().whole(generation), self.texts[index]
        is_cut = self.is_between and text != generation.holes[0]
        said = self.reader.read(text, complete=True)
        reason = "tool_calls" if said.calls else "stop" if is_cut or self.matches else generation.finish_reason
        said = replace(said, content=asked.before + said.content)
        return FinishedText(said, reason, generation, asked.prompt, asked.watch.tell(generation))


def prepare_chat(model: DreamModel, request: ChatRequest, served: str, form: ResponseFormat | None = None) -> Job:
    """An answer to a conversation."""
    chat_format = model.tokenizer.chat_format
    turns = list_turns(request.messages, request.offered, None if chat_format is None else chat_format.system)
    told: dict[str, Any] = {"stop": request.stops, "end_with": request.end_with}
    if request.length is not None:
        told["max_new_tokens"] = request.length
    thinks = chat_format is not None and chat_format.thinking != "none"
    if request.called:
        turns.append({"role": "assistant", "content": f"{CALL_BEGIN}\n"})
        told["json_schema"] = schema_of_calls(request.called)
    reader = AnswerReader(
        thinks,
        [tool.function.name for tool in request.offered],
        is_call=bool(request.called),
        most_calls=None if request.parallel_tool_calls else 1,
    )
    top = request.top_logprobs if request.logprobs else None
    begin = partial(model.stream_chat, turns, **told)
    return _job(model, request, [begin], form or Chat(served), top=top, reader=reader)


def prepare_completion(model: DreamModel, request: CompletionRequest, served: str) -> Job:
    """Texts after prompts, or between them and a suffix. Taken raw: no template."""
    echo = [_show(model.tokenizer, prompt) if request.echo else "" for prompt in request.prompts]
    begin: list[Callable[..., Denoising]]
    if request.suffix:
        befores = [_show(model.tokenizer, prompt) for prompt in request.prompts]
        begin = [partial(model.stream_infill, each, request.suffix, request.max_tokens) for each in befores]
        return _job(model, request, begin, Completions(served), befores=echo, is_between=True)
    told: dict[str, Any] = {"stop": request.stops, "end_with": request.end_with, "max_new_tokens": request.max_tokens}
    begin = [partial(model.stream, prompt, raw=True, **told) for prompt in request.prompts]
    return _job(model, request, begin, Completions(served), befores=echo)


def prepare_fim(model: DreamModel, request: FimRequest, served: str, form: type[ResponseFormat] = Fim) -> Job:
    """A text between two others."""
    begin = partial(model.stream_infill, request.prompt, request.suffix, request.max_tokens)
    return _job(model, request, [begin], form(served), is_between=True)


def prepare_fill(model: DreamModel, request: FillRequest, served: str) -> Job:
    """A text with holes and drafts anywhere."""
    pieces: list[str | Hole | Draft] = []
    for piece in request.pieces:
        if isinstance(piece, HolePiece):
            pieces.append(Hole(piece.hole, **piece.rules()))
        elif isinstance(piece, DraftPiece):
            pieces.append(Draft(piece.draft, bound=piece.bound, groups=piece.groups))
        elif isinstance(piece, TextPiece):
            pieces.append(piece.text)
        elif piece.rewrite:  # as many tokens as it has
            pieces.append(Hole(model.count_tokens(piece.rewrite), instead_of=piece.rewrite))
    return _job(model, request, [partial(model.stream_fill, pieces, bos=request.bos)], Fill(served))


def _show(tokenizer: Tokenizer, prompt: str | list[int]) -> str:
    return prompt if isinstance(prompt, str) else tokenizer.decode(prompt, skip_special=False)


def _job(
    model: DreamModel,
    request: Sampling,
    begin: Sequence[Callable[..., Denoising]],
    form: ResponseFormat,
    *,
    befores: Sequence[str] = ("",),
    top: int | None = None,
    **told: Any,
) -> Job:
    cancel = threading.Event()
    seeds = [None if request.seed is None else request.seed + index for index in range(request.n or 1)]
    texts = []
    for prompt, (start, before) in enumerate(zip(begin, befores, strict=True)):
        for seed in seeds:
            watch = LogitWatch(model, request, top)
            options = request.options() | request.rules() | watch.hooks()
            texts.append(PreparedText(start(cancel=cancel, seed=seed, **options), watch, before, prompt))
    return Job(
        texts,
        cancel,
        replace(form, ignored=form.ignored or request.ignored),
        stops=request.stops,
        matches=bool(request.rules()),
        stream=bool(request.stream),
        diffusing=request.diffusing,
        shows=request.stream_options or StreamOptions(),
        **told,
    )
