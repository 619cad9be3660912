r"""The chat format of the family, ChatML, written as code: an artifact's template is data from a stranger, never run.

<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n
<|im_start|>user\nHello<|im_end|>\n
<|im_start|>assistant\n
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypedDict

from ..chat_format import ChatFormat
from ..errors import CannotChat, InvalidConversation, InvalidOption
from .tokenizer import Tokenizer, check_text

ROLES = ("system", "user", "assistant")
TURN_START = "<|im_start|>"
TURN_END = "<|im_end|>"
NO_THOUGHTS = "<think>\n\n</think>\n\n"
"""What stands before an answer without thoughts, of a model that can think."""


class Message(TypedDict):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


def chat_ids(
    tokenizer: Tokenizer, messages: Sequence[Message | Mapping[str, object]], *, thinking: bool | None = None
) -> list[int]:
    """Ids of a conversation, up to where the assistant's next turn begins.

    It is written as `tokenizer.chat_format` says; `thinking` is whether the model is to think first, None = as it does
    by default. Contents are text: `<|im_end|>` in one of them ends nothing. A last turn of the assistant's is the
    beginning of the answer, which goes on from there.

    Raises:
        InvalidConversation: no messages, an unknown role, a content that is not a string, or a last turn that is the
            system's.
        InvalidText: a lone surrogate in a content.
        InvalidOption: `thinking`, and the model cannot.
        CannotChat: the vocabulary has no `<|im_start|>` and `<|im_end|>`, or there is no chat format.
    """
    turns = _check_turns(messages)
    for _, content in turns:
        check_text(content)
    if tokenizer.chat_format is None:
        raise CannotChat("has a chat template that is none of the known")
    markers = {content: _find_marker(tokenizer, content) for content in (TURN_START, TURN_END)}
    ids: list[int] = []
    begun = turns.pop()[1] if turns[-1][0] == "assistant" else ""
    *pieces, opening = write_turns(turns, tokenizer.chat_format, thinking=thinking)
    for piece in [*pieces, opening + begun]:
        ids += [markers[piece]] if piece in markers else tokenizer.encode(piece)
    return ids


def write_turns(
    turns: Sequence[tuple[str, str]], chat_format: ChatFormat, *, thinking: bool | None = None
) -> list[str]:
    """The text of a conversation (roles and contents), up to where the assistant's next turn begins, in pieces.

    Every marker of a turn is a piece by itself. Raises InvalidOption for a `thinking` that the model cannot.
    """
    thinks = chat_format.thinking != "none"
    if thinking is not None and not thinks:
        raise InvalidOption("thinking", thinking, "needs a model that can think: leave it out for this one")
    if (not turns or turns[0][0] != "system") and chat_format.system is not None:
        turns = [("system", chat_format.system), *turns]
    pieces: list[str] = []
    for role, content in turns:
        answer = _forget_thoughts(content) if thinks and role == "assistant" else content
        pieces += [TURN_START, f"{role}\n{answer}", TURN_END, "\n"]
    is_silent = thinks and not (chat_format.thinking == "on" if thinking is None else thinking)
    return [*pieces, TURN_START, f"assistant\n{NO_THOUGHTS if is_silent else ''}"]


def _forget_thoughts(content: str) -> str:
    """An earlier answer as it is shown again: without what was thought before it."""
    _, closing, answer = content.rpartition("</think>")
    return answer.lstrip("\n") if closing else content


def end_ids(tokenizer: Tokenizer, eos_token_id: int) -> frozenset[int]:
    """Ids before which generated text is cut: end of sequence, and end of turn where the vocabulary has it."""
    turn_end = tokenizer.special_id(TURN_END)
    return frozenset({eos_token_id} if turn_end is None else {eos_token_id, turn_end})


def listed_ends(generation: Mapping[str, object]) -> frozenset[int]:
    """The ids at which a checkpoint's generation_config.json lets a text end, where it lists several."""
    listed = generation.get("eos_token_id")
    return frozenset(each for each in listed if type(each) is int) if isinstance(listed, list) else frozenset()


def _check_turns(messages: Sequence[Message | Mapping[str, object]]) -> list[tuple[str, str]]:
    """Role and content of every message, checked."""
    if isinstance(messages, (str, Mapping)) or not isinstance(messages, Sequence):
        raise InvalidConversation(f"a conversation is a list of messages, not a {type(messages).__name__}")
    turns = []
    for number, message in enumerate(messages, 1):
        if not isinstance(message, Mapping):
            raise InvalidConversation(f"message {number} is a {type(message).__name__}, not a dict")
        role, content = message.get("role"), message.get("content")
        if not isinstance(role, str) or role not in ROLES:
            raise InvalidConversation(f"message {number} has the role {role!r:.80}, expected one of {', '.join(ROLES)}")
        if not isinstance(content, str):
            raise InvalidConversation(f"message {number} has a {type(content).__name__} as content, expected a string")
        turns.append((role, content))
    if not turns:
        raise InvalidConversation("the conversation is empty")
    if turns[-1][0] == "system":
        raise InvalidConversation(f"the last message is from the {turns[-1][0]}")
    return turns


def _find_marker(tokenizer: Tokenizer, content: str) -> int:
    index = tokenizer.special_id(content)
    if index is None:
        raise CannotChat(f"has no {content} in its vocabulary")
    return index
