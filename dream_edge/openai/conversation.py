"""Conversations as clients send them, with tools, and as the model reads them: turns of plain text.

What tools there are, calls of them and their results are written as Qwen2.5's template writes them, in ChatML.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from dream_edge_runtime.files.json import parse_json_object

from .fields import Schema, Strict, Text

CALL_BEGIN, CALL_END = "<tool_call>", "</tool_call>"
_HEAD = (
    "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>\n"
)
_TAIL = (
    "\n</tools>\n\nFor each function call, return a json object with function name and arguments within "
    '<tool_call></tool_call> XML tags:\n<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n'
    "</tool_call>"
)
Name = Annotated[str, Field(min_length=1, max_length=128)]


class Function(Strict):
    """What can be called."""

    name: Name
    description: Text = ""
    parameters: Schema = Field(default_factory=dict, description="JSON schema of its arguments.")
    strict: bool = Field(default=True, description="Without effect: required and named calls are always valid.")

    def schema_of_call(self, at: str) -> Schema:
        """What a call of it has to match; `at` says where in a schema this will stand."""
        arguments = _move(self.parameters, f"{at}/properties/arguments") or {"type": "object", "properties": {}}
        call = {"name": {"const": self.name}, "arguments": arguments}
        return {"type": "object", "properties": call, "required": [*call], "additionalProperties": False}


class Tool(Strict):
    """A function that the model may ask to be called."""

    type: Literal["function"]
    function: Function


class NamedFunction(Strict):
    """A function, by name."""

    name: Name


class ToolChoice(Strict):
    """The one tool to be called."""

    type: Literal["function"]
    function: NamedFunction


class CalledFunction(Strict):
    """A call; its arguments are JSON."""

    name: Name
    arguments: Text = "{}"


class ToolCall(Strict):
    """A call that an earlier answer asked for."""

    id: str = ""
    type: Literal["function"] = "function"
    function: CalledFunction
    index: int | None = None

    def written(self) -> str:
        """As the model writes it."""
        try:
            arguments = parse_json_object(self.function.arguments or "{}")
        except ValueError as error:
            raise ValueError(f"the arguments of {self.function.name} are no JSON object: {error}") from None
        call = _to_json({"name": self.function.name, "arguments": arguments})
        return f"{CALL_BEGIN}\n{call}\n{CALL_END}"


class TextPart(Strict):
    """A piece of a message."""

    type: Literal["text"]
    text: Text


class ChatMessage(Strict):
    """One turn of a conversation."""

    unused: ClassVar[frozenset[str]] = frozenset(
        {"name", "id", "opts", "reasoning_content", "reasoning", "annotations", "refusal", "audio"}
    )
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Text | Annotated[list[TextPart], Field(min_length=1, max_length=256)] | None = None
    tool_calls: Annotated[list[ToolCall], Field(max_length=128)] = Field(default_factory=list)
    tool_call_id: str | None = Field(default=None, description="Accepted; results are read in the order of the calls.")

    @model_validator(mode="after")
    def _says_something(self) -> ChatMessage:
        if self.content is None and not self.tool_calls:
            raise ValueError("content is missing")
        if self.tool_calls and self.role != "assistant":
            raise ValueError("tool_calls are the assistant's: leave them out of this message")
        self.text()
        return self

    def text(self) -> str:
        """What it says, calls included."""
        content = "".join(part.text for part in self.content) if isinstance(self.content, list) else self.content or ""
        return "\n".join([*([content] if content else []), *map(ToolCall.written, self.tool_calls)])


def list_turns(
    messages: Sequence[ChatMessage], tools: Sequence[Tool] = (), default_system: str | None = None
) -> list[dict[str, str]]:
    """The turns that the model reads. `tools` are described in the system's, which without one of its own is
    `default_system`."""
    turns: list[dict[str, str]] = []
    was_tool = False
    for message in messages:
        role, text = "system" if message.role == "developer" else message.role, message.text()
        if role == "tool":
            role, text = "user", f"<tool_response>\n{text}\n</tool_response>"
            if was_tool:
                turns[-1]["content"] += f"\n{text}"
                continue
        was_tool = message.role == "tool"
        turns.append({"role": role, "content": text})
    if tools:
        if not turns or turns[0]["role"] != "system":
            turns.insert(0, {"role": "system", "content": default_system or ""})
        given = [tool.model_dump(exclude_unset=True, exclude={"function": {"strict"}}) for tool in tools]
        described = "\n".join(map(_to_json, given))
        turns[0]["content"] = f"{turns[0]['content']}\n\n{_HEAD}{described}{_TAIL}".lstrip("\n")
    return turns


def schema_of_calls(tools: Sequence[Tool]) -> Schema:
    """What one call of one of `tools` has to match."""
    if len(tools) == 1:
        return tools[0].function.schema_of_call("#")
    return {"anyOf": [tool.function.schema_of_call(f"#/anyOf/{index}") for index, tool in enumerate(tools)]}


def _move(schema: Any, to: str) -> Any:
    """`schema`, which is to stand at `to` of another: its references follow."""
    if isinstance(schema, dict):
        return {
            name: to + value[1:] if name == "$ref" and isinstance(value, str) and value[:1] == "#" else _move(value, to)
            for name, value in schema.items()
        }
    return [_move(each, to) for each in schema] if isinstance(schema, list) else schema


def _to_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
