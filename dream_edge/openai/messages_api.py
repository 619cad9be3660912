"""POST /v1/messages: Anthropic's API, in the words of OpenAI's chat completions and back."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, Tag, model_validator

from dream_edge_runtime.model import DreamModel

from .answer import Said
from .conversation import Function, Name, Tool
from .errors import RequestRefused
from .fields import UNUSED_FIELDS, Schema, Strict, Text, Tokens
from .response_formats import FinishedText, Json, count_tokens
from .texts import Job, prepare_chat
from .translated import Part, PartedFormat, TranslatedRequest, by_type

_NOTES = frozenset({"cache_control", "citations", "caller", "toolset_name"})
"""Of blocks: what does not concern the text."""
_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}


class TextBlock(Strict):
    """A piece of a message, of the system turn or of a result."""

    unused: ClassVar[frozenset[str]] = _NOTES
    type: Literal["text"]
    text: Text


class ToolUse(Strict):
    """A call that an earlier answer asked for."""

    unused: ClassVar[frozenset[str]] = _NOTES
    type: Literal["tool_use"]
    id: str = ""
    name: Name
    input: Schema


class ToolResult(Strict):
    """What it gave."""

    unused: ClassVar[frozenset[str]] = _NOTES
    type: Literal["tool_result"]
    tool_use_id: str = Field(default="", description="Accepted; results are read in the order of the calls.")
    content: Text | list[TextBlock] = ""
    is_error: bool = Field(default=False, description="Without effect: the content says what went wrong.")


class Thinking(Strict):
    """What was thought before an earlier answer: it is not read again."""

    unused: ClassVar[frozenset[str]] = _NOTES | {"thinking", "signature", "data"}
    type: Literal["thinking", "redacted_thinking"]


Block = Annotated[
    Annotated[TextBlock, Tag("Text")]
    | Annotated[ToolUse, Tag("Tool_use")]
    | Annotated[ToolResult, Tag("Tool_result")]
    | Annotated[Thinking, Tag("Thinking")]
    | Annotated[Thinking, Tag("Redacted_thinking")],
    by_type("text", "tool_use", "tool_result", "thinking"),
]


class Turn(Strict):
    """One turn of a conversation."""

    role: Literal["user", "assistant", "system"]
    content: Text | Annotated[list[Block], Field(max_length=1024)]

    def translate(self) -> Iterator[Json]:
        """The messages that say it: one for each result of a tool, and one for the rest."""
        blocks = [TextBlock(type="text", text=self.content)] if isinstance(self.content, str) else self.content
        for block in blocks:
            if isinstance(block, ToolResult):
                yield {"role": "tool", "content": _read(block.content), "tool_call_id": block.tool_use_id}
        calls = [
            {"id": block.id, "function": {"name": block.name, "arguments": json.dumps(block.input, ensure_ascii=False)}}
            for block in blocks
            if isinstance(block, ToolUse)
        ]
        texts = [block for block in blocks if isinstance(block, TextBlock)]
        if texts or calls or not any(isinstance(block, ToolResult) for block in blocks):
            yield {"role": self.role, "content": _read(texts), "tool_calls": calls}


class CustomTool(Function):
    """A function that the model may ask to be called."""

    unused: ClassVar[frozenset[str]] = _NOTES | {"input_examples", "eager_input_streaming"}
    neutral: ClassVar[dict[str, tuple[Any, ...]]] = {"defer_loading": (False,), "allowed_callers": (["direct"],)}
    type: Literal["custom"] = "custom"
    parameters: Schema = Field(alias="input_schema", description="JSON schema of its arguments.")


class ToolUseChoice(Strict):
    """Whether a tool is called, and which."""

    type: Literal["auto", "any", "tool", "none"]
    name: Name | None = Field(default=None, description="With tool.")
    disable_parallel_tool_use: bool = Field(default=False, description="What comes after the first call is left out.")

    @model_validator(mode="after")
    def _names_its_tool(self) -> ToolUseChoice:
        if (self.name is not None) != (self.type == "tool"):
            raise ValueError("name goes with the type tool, and that with nothing else")
        return self


class ThinkingConfig(Strict):
    """Whether a model that can thinks first."""

    unused: ClassVar[frozenset[str]] = frozenset({"budget_tokens", "display"})
    type: Literal["enabled", "disabled", "adaptive"] = Field(description="adaptive: as the model does by itself.")


class OutputFormat(Strict):
    """What the answer has to match."""

    type: Literal["json_schema"]
    form: Schema = Field(alias="schema")


class OutputConfig(Strict):
    """About the answer."""

    unused: ClassVar[frozenset[str]] = frozenset({"effort"})
    format: OutputFormat | None = None


class MessagesRequest(TranslatedRequest):
    """POST /v1/messages"""

    unused: ClassVar[frozenset[str]] = UNUSED_FIELDS | {
        *("cache_control", "diagnostics", "inference_geo", "speed", "user_profile_id", "workspace_id")
    }

    messages: Annotated[list[Turn], Field(min_length=1, max_length=1024)]
    system: Text | list[TextBlock] = ""
    max_tokens: Tokens | None = None
    stop_sequences: Annotated[list[Annotated[str, Field(min_length=1)]], Field(max_length=16)] = Field(
        default_factory=list
    )
    tools: Annotated[list[CustomTool], Field(max_length=128)] = Field(default_factory=list)
    tool_choice: ToolUseChoice = ToolUseChoice(type="auto")
    thinking: ThinkingConfig | None = None
    output_config: OutputConfig = OutputConfig()

    def translate(self) -> Json:
        """See `TranslatedRequest.translate`."""
        system, form, choice = _read(self.system), self.output_config.format, self.tool_choice
        named = choice.name and {"type": "function", "function": {"name": choice.name}}
        return {
            "messages": [
                *([{"role": "system", "content": system}] if system else []),
                *(message for turn in self.messages for message in turn.translate()),
            ],
            "max_tokens": self.max_tokens,
            "stop": self.stop_sequences,
            "response_format": form and {"type": "json_schema", "json_schema": {"schema": form.form}},
            "tools": [Tool(type="function", function=each) for each in self.tools],
            "tool_choice": named or ("required" if choice.type == "any" else choice.type),
            "parallel_tool_calls": not choice.disable_parallel_tool_use,
            "thinking": True if self.thinking and self.thinking.type == "enabled" else None,
        }


def _read(content: str | Sequence[TextBlock]) -> str:
    return content if isinstance(content, str) else "".join(block.text for block in content)


def prepare_message(model: DreamModel, request: MessagesRequest, served: str) -> Job:
    """An answer to a conversation. Raises RequestRefused."""
    chat, chat_format = request.as_chat(), model.tokenizer.chat_format
    if request.thinking and request.thinking.type == "disabled" and chat_format and chat_format.thinking != "none":
        chat = chat.model_copy(update={"thinking": False})
    return prepare_chat(model, chat, served, Messages(served, ignored=request.ignored))


@dataclass(frozen=True)
class Messages(PartedFormat):
    """The answers of POST /v1/messages, and the events of their streams."""

    def opening(self, index: int, prompt_tokens: int) -> Iterator[Json]:
        usage = {"input_tokens": prompt_tokens, "output_tokens": 0}
        told = {"content": list[Json](), "stop_reason": None, "stop_sequence": None, "usage": usage}
        yield {"type": "message_start", "message": self._head() | told}

    def begin(self, part: Part) -> Iterator[Json]:
        yield {"type": "content_block_start", "index": part.at, "content_block": _block(part)}

    def add(self, part: Part, piece: str) -> Json:
        kind, name = {
            "text": ("text_delta", "text"),
            "thoughts": ("thinking_delta", "thinking"),
            "call": ("input_json_delta", "partial_json"),
        }[part.kind]
        return {"type": "content_block_delta", "index": part.at, "delta": {"type": kind, name: piece}}

    def end(self, part: Part) -> Iterator[Json]:
        yield {"type": "content_block_stop", "index": part.at}

    def closing(self, index: int, said: Said, finished: FinishedText) -> Iterator[Json]:
        yield from self.finish(said, finished)
        yield {"type": "message_delta", "delta": _ending(finished)} | self._count(finished)
        yield {"type": "message_stop"}

    def failure(self, refused: RequestRefused) -> Json:
        return tell_refusal(refused)

    def whole(self, texts: Sequence[FinishedText]) -> Json:
        for _ in self.finish(texts[0].said, texts[0]):
            pass
        return self._head() | {"content": [*map(_block, self.parts)]} | _ending(texts[0]) | self._count(texts[0])

    def _head(self) -> Json:
        return {"id": f"msg_{self.id}", "type": "message", "role": "assistant", "model": self.model}

    def _count(self, finished: FinishedText) -> Json:
        counted = count_tokens([finished])
        cached = counted["prompt_tokens_details"]["cached_tokens"]
        usage = {
            "input_tokens": counted["prompt_tokens"] - cached,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": cached,
            "output_tokens": counted["completion_tokens"],
        }
        return {"usage": usage, "diffusion": self.summarize([finished])}


def _block(part: Part) -> Json:
    if part.kind == "call":
        return {"type": "tool_use", "id": f"toolu_{part.id}", "name": part.name, "input": json.loads(part.text or "{}")}
    if part.kind == "thoughts":
        return {"type": "thinking", "thinking": part.text, "signature": ""}
    return {"type": "text", "text": part.text}


def _ending(finished: FinishedText) -> Json:
    if finished.reason == "stop" and finished.generation.stop_string is not None:
        return {"stop_reason": "stop_sequence", "stop_sequence": finished.generation.stop_string}
    reason = {"tool_calls": "tool_use", "length": "max_tokens"}.get(finished.reason, "end_turn")
    return {"stop_reason": reason, "stop_sequence": None}


def tell_refusal(refused: RequestRefused) -> Json:
    """Anthropic's form of it."""
    kind = _KINDS.get(refused.status, "invalid_request_error" if refused.status < 500 else "api_error")
    error: Json = {"type": kind, "message": str(refused)}
    if refused.param == "thread":  # their clients' loop of tools then goes on without one
        error["details"] = {"error_code": "thread_unsupported_request", "unsupported": ["thread"]}
    return {"type": "error", "error": error}
