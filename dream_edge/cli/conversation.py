"""A conversation at the terminal: what has been said, and the commands that change it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dream_edge_runtime.constraint.rule import RULES
from dream_edge_runtime.errors import CanvasTooLong, DreamEdgeError
from dream_edge_runtime.files.writing import explain_write_errors, replace_file
from dream_edge_runtime.generation.config import FIELDS
from dream_edge_runtime.generation.options import resolve

from .options import read_rules
from .terminal.io import note, print_text
from .terminal.run import print_result, watch

if TYPE_CHECKING:
    from dream_edge_runtime.generation.results import Generation
    from dream_edge_runtime.model import DreamModel
    from dream_edge_runtime.text.chat import Message

FENCE = '"""'


class ChatCommandError(DreamEdgeError, ValueError):
    """A command that cannot be carried out; the conversation stays as it was."""


class ConversationTooLong(ChatCommandError):
    def __init__(self, error: CanvasTooLong) -> None:
        super().__init__(
            f"the conversation and the room for an answer make {error.length} tokens; the model's context is "
            f"{error.context}. /undo and /reset shorten the one, /set max_new_tokens N the other."
        )


class Leave(Exception):
    """The user wants to leave."""


@dataclass
class Conversation:
    """What has been said so far. A turn that fails or is stopped leaves it as it was."""

    model: DreamModel
    settings: dict[str, Any]
    visual: bool
    as_json: bool = False
    messages: list[Message] = field(default_factory=list)
    saved_to: Path | None = None

    def take(self, text: str) -> None:
        """Answer `text`, or do what it says where it is a command.

        Raises:
            Leave, ChatCommandError, ConversationTooLong, and what the model raises.
        """
        first, _, rest = text.strip().partition(" ")
        if not first:
            return
        if not first.startswith("/"):
            self._answer([*self.messages, {"role": "user", "content": text}])
            return
        if first not in COMMANDS:
            raise ChatCommandError(f"there is no command {first}. Commands: {', '.join(COMMANDS)}.")
        COMMANDS[first].do(self, rest.strip())

    def _answer(self, messages: list[Message]) -> None:
        try:
            answer = watch(
                lambda cancel: self.model.stream_chat(messages, cancel=cancel, **self.settings),
                self.model.tokenizer,
                visual=self.visual,
            )
        except CanvasTooLong as error:
            raise ConversationTooLong(error) from None
        self._print(answer)
        if answer.cached_tokens:
            note(f"{answer.cached_tokens} of {answer.prompt_tokens} tokens were there from earlier turns.")
        self.messages = [*messages, {"role": "assistant", "content": answer.text}]

    def _print(self, answer: Generation) -> None:
        if self.as_json:
            print_result(answer, as_json=True)
        else:
            print_text(answer.text)

    def _change(self, settings: dict[str, Any]) -> None:
        """Answer by `settings` from here on, if they go together and the model can hold a text to their rule."""
        resolve(self.model.defaults, None, settings)
        if not settings.keys().isdisjoint(RULES):
            self.model.stream_chat([{"role": "user", "content": "?"}], **settings)  # refuses what cannot be
        self.settings = settings

    def hold(self, rules: dict[str, Any]) -> None:
        """Have every answer match `rules`, one of `RULES`; without any it may be anything."""
        self._change({name: kept for name, kept in self.settings.items() if name not in RULES} | rules)
        note(_describe(rules))

    # --- commands ----------------------------------------------------------------------------------------------------

    def undo(self, _rest: str) -> None:
        if not self.messages:
            raise ChatCommandError("nothing has been said that could be taken back.")
        self.messages = self.messages[:-2]
        last = self.messages[-1]["content"] if self.messages else None
        note("The last question and its answer are gone." if last is None else f"Back to: {last}")

    def retry(self, _rest: str) -> None:
        if not self.messages:
            raise ChatCommandError("there is no answer to try again.")
        temperature = self.settings.get("temperature", self.model.defaults.temperature)
        if self.settings.get("seed") is not None or not temperature:
            note("(At temperature 0, or with a seed, an answer comes out as before: /set temperature 0.7)")
        self._answer(self.messages[:-1])

    def infill(self, rest: str) -> None:
        if not rest:
            raise ChatCommandError("give a text with holes: /infill The [[2]] sat on the [[1]].")
        kept = {name: value for name, value in self.settings.items() if name not in _FOR_ANSWERS}
        filled = watch(
            lambda cancel: self.model.stream_fill(rest, cancel=cancel, **kept),
            self.model.tokenizer,
            visual=self.visual,
        )
        self._print(filled)

    def set(self, rest: str) -> None:
        name, _, value = rest.partition(" ")
        if not name:
            named = {key: value for key, value in self.settings.items() if key not in RULES}
            note("\n".join(f"{key} = {value}" for key, value in named.items()) or "Nothing is set.")
            note(_describe(self.settings))
            return
        changed = {key: kept for key, kept in self.settings.items() if key != name}
        if value.strip():
            changed[name] = _value(value.strip())
        names = (*FIELDS, "preset", "exact")
        if name not in names:
            raise ChatCommandError(f"there is no option {name}. Options: {', '.join(names)}.")
        self._change(changed)
        note(f"{name} = {changed[name]}" if name in changed else f"{name} is as by default.")

    def choices(self, rest: str) -> None:
        try:
            texts = shlex.split(rest)
        except ValueError as error:
            raise ChatCommandError(f'{rest!r:.80}: {error}. Put a text with quotes in others: "don\'t".') from None
        if not texts:
            raise ChatCommandError('name what an answer may be: /choices yes no "I do not know"')
        self.hold(read_rules(None, None, texts))

    def regex(self, rest: str) -> None:
        if not rest:
            raise ChatCommandError("give a regular expression: /regex [0-9]{1,3}")
        self.hold(read_rules(None, rest, None))

    def schema(self, rest: str) -> None:
        if not rest:
            raise ChatCommandError("name a file with a JSON schema, or true for any object: /schema person.json")
        self.hold(read_rules(Path(rest), None, None))

    def free(self, _rest: str) -> None:
        self.hold({})

    def save(self, rest: str) -> None:
        if not self.messages:
            raise ChatCommandError("nothing has been said that could be saved.")
        if not rest and self.saved_to is None:
            raise ChatCommandError("name a file: /save talk.jsonl")
        path = Path(rest) if rest else self.saved_to
        assert path is not None
        try:
            path = path.expanduser()
            with explain_write_errors(path, "Name another file."):
                is_taken = path != self.saved_to and path.exists()
                if not is_taken:
                    line = json.dumps({"messages": self.messages}, ensure_ascii=False) + "\n"
                    with replace_file(path) as file:
                        file.write(line.encode())
        except (ValueError, RuntimeError) as error:  # a NUL; ~nobody
            raise ChatCommandError(f"{rest!r} is no name of a file ({error}). Name another.") from None
        if is_taken:
            raise ChatCommandError(f"{path} exists. Name another file, or remove it.")
        self.saved_to = path
        note(f"Saved to {path}.")

    def reset(self, _rest: str) -> None:
        self.messages = []
        self.saved_to = None
        note("The conversation is forgotten.")

    def leave(self, _rest: str) -> None:
        raise Leave

    def help(self, _rest: str) -> None:
        note("\n".join(f"{f'{name} {each.takes}'.strip():22}{each.says}" for name, each in COMMANDS.items()))
        note(f"A line that ends in a backslash goes on; {FENCE} begins and ends a text of several lines.")


@dataclass(frozen=True)
class Command:
    do: Callable[[Conversation, str], None]
    takes: str
    says: str


COMMANDS = {
    "/undo": Command(Conversation.undo, "", "take back the last question and its answer"),
    "/retry": Command(Conversation.retry, "", "answer the last question again"),
    "/infill": Command(Conversation.infill, "TEXT", "fill the holes of a text: The [[2]] sat."),
    "/set": Command(Conversation.set, "[NAME [VALUE]]", "change an option; without a value, back to its default"),
    "/choices": Command(Conversation.choices, "TEXT …", 'have every answer be one of these: yes no "not sure"'),
    "/regex": Command(Conversation.regex, "REGEX", "have every answer match a regular expression"),
    "/schema": Command(Conversation.schema, "FILE|true", "have every answer be JSON by a schema; true: any object"),
    "/free": Command(Conversation.free, "", "let answers be anything again"),
    "/save": Command(Conversation.save, "[FILE]", "write the conversation as a line of JSON"),
    "/reset": Command(Conversation.reset, "", "forget the conversation"),
    "/help": Command(Conversation.help, "", "this list"),
    "/exit": Command(Conversation.leave, "", "leave"),
}

_FOR_ANSWERS = ("max_new_tokens", "grow_from", "stop", "stop_at_end", "thinking", *RULES)


def utterances(lines: Iterable[str]) -> Iterator[str]:
    """What is said, out of `lines` without their ends: several where one ends in a backslash, or between fences."""
    held: list[str] = []
    fenced = False
    for line in lines:
        if fenced:
            if line.strip() == FENCE:
                yield "\n".join(held)
                held, fenced = [], False
            else:
                held.append(line)
        elif not held and line.strip() == FENCE:
            fenced = True
        elif line.endswith("\\"):
            held.append(line[:-1])
        else:
            yield "\n".join([*held, line])
            held = []
    if held:
        yield "\n".join(held)


def _describe(rules: dict[str, Any]) -> str:
    """What an answer must match."""
    if "choices" in rules:
        return f"Every answer is one of: {', '.join(map(repr, rules['choices']))}."
    if "regex" in rules:
        return f"Every answer matches: {rules['regex']}"
    if "json_schema" in rules:
        schema = rules["json_schema"]
        return "Every answer is JSON: " + (
            "any object." if schema is True else f"valid under {json.dumps(schema):.200}"
        )
    return "Answers may be anything."


def _value(text: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, int | float | bool | list) else text
