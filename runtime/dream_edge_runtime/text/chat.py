r"""Dream's chat format, ChatML, written as code: an artifact's template is data from a stranger and is never run.

<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n
<|im_start|>user\nHello<|im_end|>\n
<|im_start|>assistant\n
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypedDict

from ..errors import InvalidConversation, NoChatTokens
from .tokenizer import Tokenizer, check_text

DEFAULT_SYSTEM = "You are a helpful assistant."
ROLES = ("system", "user", "assistant")
TURN_START = "<|im_start|>"
TURN_END = "<|im_end|>"


class Message(TypedDict):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


def chat_ids(
    tokenizer: Tokenizer, messages: Sequence[Message | Mapping[str, object]], *, default_system: str = DEFAULT_SYSTEM
) -> list[int]:
    """Ids of a conversation, up to where the assistant's next turn begins.

    A conversation that does not begin with a system turn gets `default_system`. Contents are text: `<|im_end|>` in
    one of them ends nothing.

    Raises:
        InvalidConversation: no messages, an unknown role, a content that is not a string, or a last turn that is not
            the user's.
        InvalidText: a lone surrogate in a content.
        NoChatTokens: the vocabulary has no `<|im_start|>` and `<|im_end|>`.
    """
    turns = _check_turns(messages)
    if turns[0][0] != "system":
        turns.insert(0, ("system", default_system))
    start, end = (_find_marker(tokenizer, content) for content in (TURN_START, TURN_END))
    line_end = tokenizer.encode("\n")
    ids: list[int] = []
    for role, content in turns:
        check_text(content)
        ids += [start, *tokenizer.encode(f"{role}\n{content}"), end, *line_end]
    return [*ids, start, *tokenizer.encode("assistant\n")]


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
    if turns[-1][0] != "user":
        raise InvalidConversation(f"the last message is from the {turns[-1][0]}")
    return turns


def _find_marker(tokenizer: Tokenizer, content: str) -> int:
    index = tokenizer.special_id(content)
    if index is None:
        raise NoChatTokens(content)
    return index
