"""From the harness's texts to token ids: conversations, prompts with their answers, and markers of turns."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from dream_edge_runtime.chat_format import ChatFormat
from dream_edge_runtime.errors import CannotChat, InvalidConversation
from dream_edge_runtime.text.chat import ROLES, TURN_END, TURN_START, write_turns
from dream_edge_runtime.text.tokenizer import Tokenizer

_MARKERS = re.compile(f"({re.escape(TURN_START)}|{re.escape(TURN_END)})")


def render_chat(
    messages: Sequence[Mapping[str, str]],
    chat_format: ChatFormat | None,
    *,
    opens_reply: bool = True,
    thinking: bool | None = None,
) -> str:
    """A conversation as one text in a model's chat format (ChatML).

    With `opens_reply` it ends where the assistant's next turn begins; without, within its last message, which the
    model is to continue.

    Raises:
        InvalidConversation: there is no message, or one has an unknown role.
        InvalidOption: `thinking`, and the model cannot.
        CannotChat: there is no format.
    """
    if chat_format is None:
        raise CannotChat("has a chat template that is none of the known")
    turns = [(message["role"], message["content"]) for message in messages]
    if not turns:
        raise InvalidConversation("the conversation is empty")
    for role, _ in turns:
        if role not in ROLES:
            raise InvalidConversation(f"a message has the role {role!r:.80}, expected one of {', '.join(ROLES)}")
    pieces = write_turns(turns, chat_format, thinking=thinking)
    return "".join(pieces if opens_reply else pieces[:-4])  # of the last turn its end, and the beginning of the reply


def encode(tokenizer: Tokenizer, text: str) -> list[int]:
    """Ids of `text`. In one that begins a turn, as `render_chat` makes them, turn markers are special tokens.

    Raises:
        CannotChat: the vocabulary has no markers.
        InvalidText: a lone surrogate.
    """
    if not text.startswith(TURN_START):
        return tokenizer.encode(text)
    ids: list[int] = []
    for part in _MARKERS.split(text):
        if part in (TURN_START, TURN_END):
            marker = tokenizer.special_id(part)
            if marker is None:
                raise CannotChat(f"has no {part} in its vocabulary")
            ids.append(marker)
        elif part:
            ids += tokenizer.encode(part)
    return ids


def encode_pair(tokenizer: Tokenizer, context: str, continuation: str) -> tuple[list[int], list[int]]:
    """Ids of a prompt and of what follows it, split as one text is: the continuation takes spaces that end the prompt.

    This is the harness's own rule, but line ends stay in the prompt: no word begins with one, and conversations end in
    one.
    """
    kept = context.rstrip(" ")
    whole = encode(tokenizer, context + continuation)
    prompt = encode(tokenizer, kept)
    return prompt, whole[len(prompt) :]
