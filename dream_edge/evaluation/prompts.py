"""From the harness's texts to token ids: conversations, prompts with their answers, and markers of turns."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from dream_edge_runtime.errors import InvalidConversation, NoChatTokens
from dream_edge_runtime.text.chat import DEFAULT_SYSTEM, ROLES, TURN_END, TURN_START
from dream_edge_runtime.text.tokenizer import Tokenizer

CHAT_TEMPLATE = (
    f"{TURN_START}system\\n{{system, or: {DEFAULT_SYSTEM}}}{TURN_END}\\n"
    f"{TURN_START}{{role}}\\n{{content}}{TURN_END}\\n…{TURN_START}assistant\\n"
)
"""For the record that the harness keeps; the format itself is code, see `dream_edge_runtime.text.chat`."""

_MARKERS = re.compile(f"({re.escape(TURN_START)}|{re.escape(TURN_END)})")


def render_chat(messages: Sequence[Mapping[str, str]], *, opens_reply: bool = True) -> str:
    """A conversation as one text in Dream's chat format (ChatML).

    With `opens_reply` it ends where the assistant's next turn begins; without, within its last message, which the
    model is to continue.

    Raises:
        InvalidConversation: there is no message, or one has an unknown role.
    """
    turns = [(message["role"], message["content"]) for message in messages]
    if not turns:
        raise InvalidConversation("the conversation is empty")
    for role, _ in turns:
        if role not in ROLES:
            raise InvalidConversation(f"a message has the role {role!r:.80}, expected one of {', '.join(ROLES)}")
    if turns[0][0] != "system":
        turns.insert(0, ("system", DEFAULT_SYSTEM))
    text = "".join(f"{TURN_START}{role}\n{content}{TURN_END}\n" for role, content in turns)
    return f"{text}{TURN_START}assistant\n" if opens_reply else text.removesuffix(f"{TURN_END}\n")


def encode(tokenizer: Tokenizer, text: str) -> list[int]:
    """Ids of `text`. In one that begins a turn, as `render_chat` makes them, turn markers are special tokens.

    Raises:
        NoChatTokens: the vocabulary has no markers.
        InvalidText: a lone surrogate.
    """
    if not text.startswith(TURN_START):
        return tokenizer.encode(text)
    ids: list[int] = []
    for part in _MARKERS.split(text):
        if part in (TURN_START, TURN_END):
            marker = tokenizer.special_id(part)
            if marker is None:
                raise NoChatTokens(part)
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
