"""From what a caller gives to the token ids of a prompt."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..arrays import IntArray
from ..errors import EmptyPrompt, InvalidOption, InvalidTokenId
from .chat import chat_ids
from .tokenizer import AlignedText, Tokenizer

Prompt = str | Sequence[int] | IntArray
"""Text, or the token ids of a prompt as they are."""


def prompt_ids(
    tokenizer: Tokenizer, prompt: Prompt, vocab_size: int, *, raw: bool, thinking: bool | None = None
) -> list[int]:
    """Ids of `prompt`. A text becomes the user's turn of a conversation unless it is `raw`; ids are always raw.

    `thinking` is whether a model that can is to think before it answers; raw prompts say so themselves.

    Raises:
        EmptyPrompt, InvalidText, InvalidTokenId: the prompt cannot be used.
        InvalidOption: it is neither text nor ids; `thinking`, and the model cannot.
    """
    if isinstance(prompt, str):
        if not prompt:
            raise EmptyPrompt
        if raw:
            return tokenizer.encode(prompt)
        return chat_ids(tokenizer, [{"role": "user", "content": prompt}], thinking=thinking)
    is_list = isinstance(prompt, Sequence) and not isinstance(prompt, bytes | bytearray | memoryview)
    if not is_list and not (isinstance(prompt, np.ndarray) and prompt.ndim == 1):
        raise InvalidOption("prompt", type(prompt), "must be text or a sequence of token ids")
    if not len(prompt):
        raise EmptyPrompt
    return [_check_token(token, vocab_size) for token in prompt]


def align_argument(tokenizer: Tokenizer, name: str, text: str) -> AlignedText:
    """The tokens of `text`, which may be empty; `name` is the argument it came as."""
    if not isinstance(text, str):
        raise InvalidOption(name, text, "must be text")
    return tokenizer.align(text)


def _check_token(token: Any, vocab_size: int) -> int:
    is_bool = isinstance(token, bool | np.bool_)
    try:
        number = -1 if is_bool else operator.index(token)
    except TypeError:
        number = -1
    if not 0 <= number < vocab_size:
        raise InvalidTokenId(token, vocab_size)
    return number
