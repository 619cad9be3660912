"""What other APIs share: a request becomes one for a chat completion, and what is said becomes an answer in parts."""

from __future__ import annotations

import secrets
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, ValidationError

from .answer import Said
from .fields import NEUTRAL_FIELDS, UNUSED_FIELDS, Text
from .generation_fields import LARGEST_INTEGER, generation_fields, read_options
from .requests import ChatRequest, StreamOptions
from .response_formats import FinishedText, Json, ResponseFormat
from .structure import Structured
from .validation import explain

if TYPE_CHECKING:
    OwnFields = Structured
else:
    OwnFields = generation_fields(Structured)


class TranslatedRequest(OwnFields):
    """Dream's own fields, and what is worded alike everywhere."""

    unused: ClassVar[frozenset[str]] = UNUSED_FIELDS
    neutral: ClassVar[dict[str, tuple[Any, ...]]] = NEUTRAL_FIELDS
    conversation: ClassVar[str] = "messages"
    """The field that holds it."""

    model: Annotated[str, Field(max_length=512)] | None = None
    seed: int | None = Field(default=None, ge=0, le=LARGEST_INTEGER, description="-1: a new one each time.")
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    end_with: Text | None = Field(default=None, description="The last words of the answer, fixed from the start.")

    @abstractmethod
    def translate(self) -> Json:
        """The fields of a chat completion that say the rest."""

    def as_chat(self) -> ChatRequest:
        """The same, asked as a chat completion.

        Raises:
            RequestRefused: what is asked for contradicts itself.
        """
        same = ("model", "seed", "stream", "stream_options", "end_with")
        asked = {name: getattr(self, name) for name in same} | read_options(self) | self.rules() | self.translate()
        try:
            return ChatRequest.model_validate(asked)
        except ValidationError as error:
            at: dict[tuple[int | str, ...], tuple[int | str, ...]] = {("messages",): (self.conversation,)}
            raise explain([{**each, "loc": at.get(each["loc"][:1], each["loc"])} for each in error.errors()]) from None


def by_type(*types: str, otherwise: str | None = None) -> Discriminator:
    """Tell the members of a union apart by their `type`, whose tags begin with a capital, as names of classes do."""

    def find_tag(given: Any) -> str | None:
        kind = (given.get("type") or otherwise) if isinstance(given, dict) else getattr(given, "type", None)
        return kind.capitalize() if isinstance(kind, str) else None

    known = f"its type has to be one of {', '.join(types)}"
    return Discriminator(find_tag, custom_error_type="unknown_type", custom_error_message=known)


Kind = Literal["thoughts", "text", "call"]


@dataclass
class Part:
    """One of the things that an answer is made of, as far as it has come."""

    at: int
    """Which of them."""
    kind: Kind
    name: str = ""
    """Of the tool that is called."""
    text: str = ""
    """Of a call: its arguments."""
    id: str = field(default_factory=lambda: secrets.token_hex(12))
    is_cut: bool = False
    """Whether there was no room for more of it."""


@dataclass(frozen=True)
class PartedFormat(ResponseFormat):
    """An answer of one text in parts, one after the other; the last is open. A stream tells each by events."""

    id: str = field(default_factory=lambda: secrets.token_hex(12), kw_only=True)
    parts: list[Part] = field(default_factory=list, kw_only=True)

    @abstractmethod
    def begin(self, part: Part) -> Iterable[Json]:
        """What tells that `part` begins."""

    @abstractmethod
    def add(self, part: Part, piece: str) -> Json:
        """What tells a `piece` of it."""

    @abstractmethod
    def end(self, part: Part) -> Iterable[Json]:
        """What tells that it is complete."""

    def chunk(self, index: int, said: Said, diffusion: Json | None = None) -> Iterator[Json]:
        if said.thoughts:
            yield from self._extend("thoughts", said.thoughts)
        if said.content:
            yield from self._extend("text", said.content)
        for call in said.calls:
            yield from self._extend("call", call.arguments, call.name)

    def finish(self, said: Said, finished: FinishedText) -> Iterator[Json]:
        """Tell what is left, and end; an answer without parts has an empty text."""
        yield from self.chunk(0, said)
        if not self.parts:
            yield from self._extend("text", "")
        self.parts[-1].is_cut = finished.reason == "length"
        yield from self.end(self.parts[-1])

    def _extend(self, kind: Kind, piece: str, name: str = "") -> Iterator[Json]:
        if not self.parts or kind == "call" or self.parts[-1].kind != kind:
            if self.parts:
                yield from self.end(self.parts[-1])
            self.parts.append(Part(len(self.parts), kind, name))
            yield from self.begin(self.parts[-1])
        self.parts[-1].text += piece
        yield self.add(self.parts[-1], piece)
