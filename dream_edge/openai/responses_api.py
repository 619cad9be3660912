"""POST /v1/responses: OpenAI's newer API, in the words of the older one and back."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, Tag, model_validator

from dream_edge_runtime.model import DreamModel

from .answer import Said
from .conversation import Function, Name, NamedFunction, Tool, ToolChoice
from .errors import RequestRefused
from .fields import NEUTRAL_FIELDS, UNUSED_FIELDS, Schema, Strict, Text, Tokens
from .response_formats import FinishedText, Json, count_tokens
from .texts import Job, prepare_chat
from .translated import Part, PartedFormat, TranslatedRequest, by_type

_KINDS = {"text": "output_text", "thoughts": "reasoning_text", "call": "function_call_arguments"}
_WHERE = frozenset({"id", "status", "phase", "caller", "namespace", "async"})
"""Of items: what an earlier answer said of them."""


class InputText(Strict):
    """A piece of a message or of a result."""

    unused: ClassVar[frozenset[str]] = frozenset({"annotations", "logprobs", "prompt_cache_breakpoint"})
    type: Literal["input_text", "output_text"]
    text: Text


Content = Text | Annotated[list[InputText], Field(max_length=256)]


class Message(Strict):
    """One turn of a conversation."""

    unused: ClassVar[frozenset[str]] = _WHERE
    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: Content


class FunctionCall(Strict):
    """A call that an earlier answer asked for."""

    unused: ClassVar[frozenset[str]] = _WHERE
    type: Literal["function_call"]
    call_id: str = ""
    name: Name
    arguments: Text


class FunctionCallOutput(Strict):
    """What it gave."""

    unused: ClassVar[frozenset[str]] = _WHERE | {"name"}
    type: Literal["function_call_output"]
    call_id: str = Field(default="", description="Accepted; results are read in the order of the calls.")
    output: Content


class Reasoning(Strict):
    """What was thought before an earlier answer: it is not read again."""

    unused: ClassVar[frozenset[str]] = _WHERE | {"summary", "content", "encrypted_content"}
    type: Literal["reasoning"]


Item = Annotated[
    Annotated[Message, Tag("Message")]
    | Annotated[FunctionCall, Tag("Function_call")]
    | Annotated[FunctionCallOutput, Tag("Function_call_output")]
    | Annotated[Reasoning, Tag("Reasoning")],
    by_type("message", "function_call", "function_call_output", "reasoning", otherwise="message"),
]


class FunctionTool(Function):
    """A function that the model may ask to be called."""

    unused: ClassVar[frozenset[str]] = frozenset({"output_schema"})
    neutral: ClassVar[dict[str, tuple[Any, ...]]] = {"defer_loading": (False,), "allowed_callers": (["direct"],)}
    type: Literal["function"]


class FunctionChoice(NamedFunction):
    """The one tool to be called."""

    type: Literal["function"]


class TextFormat(Strict):
    """What the answer has to look like."""

    type: Literal["text", "json_object", "json_schema"]
    name: str = ""
    description: str = ""
    strict: bool = Field(default=True, description="Without effect: the text is always valid.")
    form: Schema | None = Field(default=None, alias="schema", description="With json_schema.")

    @model_validator(mode="after")
    def _has_its_own(self) -> TextFormat:
        if (self.form is not None) != (self.type == "json_schema"):
            raise ValueError("schema goes with the type json_schema, and that with nothing else")
        return self


class TextConfig(Strict):
    """About the text of the answer."""

    unused: ClassVar[frozenset[str]] = frozenset({"verbosity"})
    format: TextFormat = TextFormat(type="text")


class ResponsesRequest(TranslatedRequest):
    """POST /v1/responses"""

    unused: ClassVar[frozenset[str]] = UNUSED_FIELDS | {"reasoning", "max_tool_calls", "prompt_cache_options"}
    neutral: ClassVar[dict[str, tuple[Any, ...]]] = NEUTRAL_FIELDS | {
        "background": (False,),
        "truncation": ("disabled",),
    }
    conversation: ClassVar[str] = "input"

    input: Text | Annotated[list[Item], Field(min_length=1, max_length=1024)]
    instructions: Text | None = Field(default=None, description="The system turn.")
    max_output_tokens: Tokens | None = None
    text: TextConfig = TextConfig()
    tools: Annotated[list[FunctionTool], Field(max_length=128)] = Field(default_factory=list)
    tool_choice: Literal["none", "auto", "required"] | FunctionChoice = "auto"
    parallel_tool_calls: bool = Field(default=True, description="False: what comes after the first call is left out.")
    top_logprobs: int | None = Field(default=None, ge=0, le=20, description="Asks for log-probabilities, too.")
    include: list[Literal["message.output_text.logprobs", "reasoning.encrypted_content"]] = Field(
        default_factory=list, description="Nothing is encrypted: what is thought is told as it is."
    )

    def translate(self) -> Json:
        """See `TranslatedRequest.translate`."""
        form, choice = self.text.format, self.tool_choice
        schema = None if form.form is None else {"schema": form.form}
        return {
            "messages": [*self._list_messages()],
            "max_tokens": self.max_output_tokens,
            "response_format": {"type": form.type, "json_schema": schema},
            "tools": [Tool(type="function", function=each) for each in self.tools],
            "tool_choice": choice if isinstance(choice, str) else ToolChoice(type="function", function=choice),
            "parallel_tool_calls": self.parallel_tool_calls,
            "logprobs": self.top_logprobs is not None or "message.output_text.logprobs" in self.include,
            "top_logprobs": self.top_logprobs,
        }

    def _list_messages(self) -> list[Json]:
        messages: list[Json] = [{"role": "system", "content": self.instructions}] if self.instructions else []
        items = [Message(role="user", content=self.input)] if isinstance(self.input, str) else self.input
        for item in items:
            if isinstance(item, Message):
                messages.append({"role": item.role, "content": _read(item.content)})
            elif isinstance(item, FunctionCallOutput):
                messages.append({"role": "tool", "content": _read(item.output), "tool_call_id": item.call_id})
            elif isinstance(item, FunctionCall):
                if not messages or messages[-1]["role"] != "assistant":
                    messages.append({"role": "assistant"})
                call = {"id": item.call_id, "function": {"name": item.name, "arguments": item.arguments}}
                messages[-1].setdefault("tool_calls", []).append(call)
        return messages

    def echo(self) -> Json:
        """What an answer says of the request."""
        names = ("instructions", "max_output_tokens", "temperature", "top_p", "top_logprobs")
        told = {"text", "tools", "tool_choice", "parallel_tool_calls"}
        asked = {name: getattr(self, name) for name in names}
        return asked | self.model_dump(include=told, by_alias=True, exclude_none=True)


def _read(content: Content) -> str:
    return content if isinstance(content, str) else "".join(part.text for part in content)


def prepare_response(model: DreamModel, request: ResponsesRequest, served: str) -> Job:
    """An answer to a conversation. Raises RequestRefused."""
    form = Responses(served, request.echo(), model.count_tokens, ignored=request.ignored)
    return prepare_chat(model, request.as_chat(), served, form)


@dataclass(frozen=True)
class Responses(PartedFormat):
    """The answers of POST /v1/responses, and the events of their streams."""

    asked: Json
    """What they say of the request."""
    count: Callable[[str], int]
    """Counts the tokens of thoughts."""
    created: int = field(default_factory=lambda: int(time.time()))
    logprobs: list[Json] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def opening(self, index: int, prompt_tokens: int) -> Iterator[Json]:
        for status in ("created", "in_progress"):
            yield self._event(status, response=self._tell("in_progress"))

    def begin(self, part: Part) -> Iterator[Json]:
        item = self._item(part, "in_progress") | ({} if part.kind == "call" else {"content": []})
        yield self._event("output_item.added", output_index=part.at, item=item)
        if part.kind != "call":
            yield self._event("content_part.added", part, part=self._content(part))

    def add(self, part: Part, piece: str) -> Json:
        more = {"logprobs": list[Json]()} if part.kind == "text" else {}
        return self._event(f"{_KINDS[part.kind]}.delta", part, delta=piece, **more)

    def end(self, part: Part) -> Iterator[Json]:
        item = self._item(part, "incomplete" if part.is_cut else "completed")
        if part.kind == "call":
            yield self._event(f"{_KINDS[part.kind]}.done", part, name=part.name, arguments=part.text)
        else:
            told = {name: value for name, value in self._content(part).items() if name in ("text", "logprobs")}
            yield self._event(f"{_KINDS[part.kind]}.done", part, **told)
            yield self._event("content_part.done", part, part=self._content(part))
        yield self._event("output_item.done", output_index=part.at, item=item)

    def closing(self, index: int, said: Said, finished: FinishedText) -> Iterator[Json]:
        self.logprobs.extend(finished.logprobs or [])
        yield from self.finish(said, finished)
        status = "incomplete" if finished.reason == "length" else "completed"
        yield self._event(status, response=self._tell(status, finished))

    def failure(self, refused: RequestRefused) -> Json:
        error = {"code": "server_error", "message": str(refused)}
        return self._event("failed", response=self._tell("failed") | {"error": error})

    def whole(self, texts: Sequence[FinishedText]) -> Json:
        *_, last = self.closing(0, texts[0].said, texts[0])
        response: Json = last["response"]
        return response

    def _event(self, kind: str, part: Part | None = None, /, **told: Any) -> Json:
        event = {"type": f"response.{kind}", "sequence_number": next(self.numbers)}
        if part is not None:
            event |= {"item_id": self._item(part, "")["id"], "output_index": part.at}
            event |= {} if part.kind == "call" else {"content_index": 0}
        return event | told

    def _item(self, part: Part, status: str) -> Json:
        if part.kind == "call":
            call = {"call_id": f"call_{part.id}", "name": part.name, "arguments": part.text}
            return {"id": f"fc_{part.id}", "type": "function_call", "status": status, **call}
        if part.kind == "thoughts":
            item: Json = {"id": f"rs_{part.id}", "type": "reasoning", "status": status, "summary": []}
        else:
            item = {"id": f"msg_{part.id}", "type": "message", "status": status, "role": "assistant"}
        return item | {"content": [self._content(part)]}

    def _content(self, part: Part) -> Json:
        content: Json = {"type": _KINDS[part.kind], "text": part.text}
        if part.kind == "thoughts":
            return content
        *_, last = (each for each in self.parts if each.kind == "text")
        return content | {"annotations": [], "logprobs": [*self.logprobs] if part is last else []}

    def _tell(self, status: str, finished: FinishedText | None = None) -> Json:
        """The answer as far as it has come."""
        response = {"id": f"resp_{self.id}", "object": "response", "created_at": self.created, "status": status}
        response |= {"model": self.model, "error": None, "incomplete_details": None, "previous_response_id": None}
        response |= {"truncation": "disabled", **self.asked}
        response["output"] = [self._item(each, "incomplete" if each.is_cut else "completed") for each in self.parts]
        if status == "incomplete":
            response["incomplete_details"] = {"reason": "max_output_tokens"}
        return response | ({"usage": None} if finished is None else self._count(finished))

    def _count(self, finished: FinishedText) -> Json:
        counted = count_tokens([finished])
        usage = {
            "input_tokens": counted["prompt_tokens"],
            "input_tokens_details": counted["prompt_tokens_details"] | {"cache_write_tokens": 0},
            "output_tokens": counted["completion_tokens"],
            "output_tokens_details": {"reasoning_tokens": self.count(finished.said.thoughts)},
            "total_tokens": counted["total_tokens"],
        }
        return {"usage": usage, "diffusion": self.summarize([finished])}
