"""What an answer says: thoughts, text, and calls of tools. All three are written in one text, between tags."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from .conversation import CALL_BEGIN, CALL_END

_THOUGHTS_BEGIN, _THOUGHTS_END = "<think>", "</think>"


@dataclass(frozen=True)
class Call:
    """A call of a tool; its arguments are JSON."""

    name: str
    arguments: str


@dataclass(frozen=True)
class Said:
    """An answer, or a piece of one."""

    content: str = ""
    thoughts: str = ""
    calls: tuple[Call, ...] = ()
    calls_before: int = 0
    """Of a piece: how many calls the pieces before it had."""

    def since(self, before: Said) -> Said:
        """What this has that `before`, its beginning, has not."""
        known = len(before.calls)
        content, thoughts = self.content[len(before.content) :], self.thoughts[len(before.thoughts) :]
        return Said(content, thoughts, self.calls[known:], known)

    def __bool__(self) -> bool:
        return bool(self.content or self.thoughts or self.calls)


@dataclass(frozen=True)
class AnswerReader:
    """Reads answers.

    Attributes:
        thinks: whether they may begin with thoughts.
        tools: names of what they may call.
        is_call: whether they are one call, and nothing else.
        most_calls: those after are left out.
    """

    thinks: bool = False
    tools: Sequence[str] = ()
    is_call: bool = False
    most_calls: int | None = None

    def read(self, text: str, *, complete: bool) -> Said:
        """What `text` says. Of one that is not `complete`, what no more text can change."""
        if self.is_call:
            call = self._parse(text) if complete else None
            return Said("" if call or not complete else text, calls=(call,) if call else ())
        thoughts, text = self._split_thoughts(text, complete=complete)
        content, calls = self._split_calls(text, complete=complete)
        return Said(content, thoughts, calls[: self.most_calls])

    def _split_thoughts(self, text: str, *, complete: bool) -> tuple[str, str]:
        if not self.thinks:
            return "", text
        begun = text.lstrip()
        if not begun.startswith(_THOUGHTS_BEGIN):
            is_unsure = not complete and _THOUGHTS_BEGIN.startswith(begun)
            return "", "" if is_unsure else text
        thoughts, end, rest = begun.removeprefix(_THOUGHTS_BEGIN).partition(_THOUGHTS_END)
        if not end and not complete:
            thoughts = thoughts[: len(thoughts) - _count_begun(thoughts, _THOUGHTS_END)]
        return thoughts.strip("\n"), rest.lstrip("\n")

    def _split_calls(self, text: str, *, complete: bool) -> tuple[str, tuple[Call, ...]]:
        if not self.tools:
            return text, ()
        content, *blocks = text.split(CALL_BEGIN)
        calls: list[Call] = []
        for index, block in enumerate(blocks):
            inside, end, after = block.partition(CALL_END)
            if not end and not complete and index == len(blocks) - 1:
                return content.rstrip(), tuple(calls)
            if call := self._parse(inside):
                calls.append(call)
                content += after if after.strip() else ""
            else:
                content += CALL_BEGIN + block
        if not complete:
            content = content[: len(content) - _count_begun(text, CALL_BEGIN)]
        return content.rstrip() if blocks or not complete else content, tuple(calls)

    def _parse(self, text: str) -> Call | None:
        try:
            call: Any = json.loads(text)
        except (ValueError, RecursionError):
            return None
        if not isinstance(call, dict) or call.get("name") not in self.tools:
            return None
        arguments = call.get("arguments", {})
        return Call(call["name"], json.dumps(arguments, ensure_ascii=False)) if isinstance(arguments, dict) else None


@dataclass
class AnswerStream:
    """Follows the text of one answer: each piece it hands out comes after the piece before."""

    reader: AnswerReader
    _text: str = ""
    _said: Said = field(default_factory=Said)

    def advance(self, piece: str) -> Said:
        """What is new with `piece`, which comes after the text so far."""
        return self._hand(piece, complete=False)

    def finish(self, piece: str) -> Said:
        """What is left with the last `piece`."""
        return self._hand(piece, complete=True)

    def _hand(self, piece: str, *, complete: bool) -> Said:
        self._text += piece
        before, self._said = self._said, self.reader.read(self._text, complete=complete)
        return self._said.since(before)


def _count_begun(text: str, tag: str) -> int:
    """How many characters at the end of `text` may be the beginning of `tag`."""
    return next((size for size in range(len(tag) - 1, 0, -1) if text.endswith(tag[:size])), 0)
