"""The texts that a comparison masks: built in, from a file, or the bundled model's own tasks; and their token ids."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dream_edge_runtime.arrays import IntArray
from dream_edge_runtime.errors import PromptError
from dream_edge_runtime.files.json import describe
from dream_edge_runtime.text.chat import ROLES, TURN_END, Message, chat_ids
from dream_edge_runtime.text.tokenizer import Tokenizer, check_text

from ...models import is_tiny
from ..errors import NoData, UnreadableData

if TYPE_CHECKING:
    from dream_edge_export.checkpoint.checkpoint import Checkpoint

LARGEST_FILE = 1 << 28


@dataclass(frozen=True)
class Sample:
    """An answer to be masked and a prompt that stays visible: text, or a conversation up to the assistant's turn."""

    prompt: str | tuple[Message, ...]
    answer: str


Text = str | Sample
"""A plain string may be masked anywhere."""


Texts = str | Path | Sequence[Text | Path]
"""A file of texts, see `read_texts`, or texts themselves; a `Path` among these is a file too."""


@dataclass(frozen=True)
class Passage:
    """Token ids [length]; those from `start` on may be masked."""

    ids: IntArray
    start: int

    @property
    def maskable(self) -> int:
        return len(self.ids) - self.start


def read_texts(path: Path) -> list[Text]:
    """The texts of a .txt file (separated by blank lines) or a .jsonl file.

    A line of .jsonl is {"text": "..."}, {"prompt": "...", "completion": "..."} or {"messages": [...]} in OpenAI's form;
    of a conversation the last turn, which must be the assistant's, is the answer.

    Raises:
        UnreadableData: the file is absent, too large, not UTF-8, or a line of it is none of these.
        NoData: it holds no text.
    """
    path = Path(path)
    if path.suffix not in (".txt", ".jsonl"):
        raise UnreadableData(path, f"texts are not read from {path.suffix or 'files without an ending'}")
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
        if len(data) > LARGEST_FILE:
            raise UnreadableData(path, f"it has more than {LARGEST_FILE >> 20} MB")
        content = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableData(path, f"it is not UTF-8 (byte {error.start})") from None
    except OSError as error:
        if isinstance(error, UnreadableData):
            raise
        raise UnreadableData(path, f"cannot be read ({error.strerror})") from None
    texts = [*(split_paragraphs(content) if path.suffix == ".txt" else parse_lines(path, content))]
    if not texts:
        raise NoData(path)
    return texts


def gather_texts(data: Texts) -> list[Text]:
    """The texts that `data` names or holds, in that order. Raises NoData, UnreadableData."""
    if isinstance(data, str | Path):
        return read_texts(Path(data))
    found: list[Text] = []
    for each in data:
        found += read_texts(each) if isinstance(each, Path) else [each]
    if not found:
        raise NoData("data")
    return found


def passages(texts: Sequence[Text], tokenizer: Tokenizer, longest: int) -> list[Passage]:
    """Every text in ids, cut into pieces of at most `longest` tokens; a piece with nothing to mask is left out.

    Raises:
        NoData: nothing can be masked.
        PromptError: a text with a lone surrogate, or a conversation that the model's template cannot hold.
    """
    found = []
    for text in texts:
        whole = _encode(text, tokenizer)
        for begin in range(0, len(whole.ids), longest):
            piece = Passage(whole.ids[begin : begin + longest], max(0, whole.start - begin))
            if piece.maskable > 0:
                found.append(piece)
    if not found:
        raise NoData("data")
    return found


def _encode(text: Text, tokenizer: Tokenizer) -> Passage:
    if isinstance(text, str):
        return Passage(np.array(tokenizer.encode(text), np.int64), 0)
    answer = tokenizer.encode(text.answer)
    if isinstance(text.prompt, str):
        prompt = tokenizer.encode(text.prompt)
    else:
        prompt = chat_ids(tokenizer, text.prompt)
        turn_end = tokenizer.special_id(TURN_END)
        answer += [] if turn_end is None else [turn_end]
    return Passage(np.array(prompt + answer, np.int64), len(prompt))


def split_paragraphs(content: str) -> Iterator[str]:
    """The parts of `content` between blank lines."""
    return (part.strip("\r\n") for part in re.split(r"\r?\n(?:[ \t]*\r?\n)+", content) if part.strip())


def parse_lines(path: Path, content: str) -> Iterator[Text]:
    """The texts of .jsonl `content`; UnreadableData, naming `path`, where a line holds none."""
    for number, line in enumerate(content.split("\n"), 1):
        if not line.strip():
            continue
        try:
            text = _text_of(json.loads(line))
            for part in (text,) if isinstance(text, str) else (text.answer,):
                check_text(part)
        except (ValueError, RecursionError, PromptError) as error:
            raise UnreadableData(path, f"line {number}: {error}") from None
        if text:
            yield text


def _text_of(entry: Any) -> Text:
    if isinstance(entry, Mapping) and isinstance(entry.get("text"), str):
        return str(entry["text"])
    if isinstance(entry, Mapping) and isinstance(entry.get("prompt"), str) and isinstance(entry.get("completion"), str):
        return Sample(entry["prompt"], entry["completion"])
    messages = entry.get("messages") if isinstance(entry, Mapping) else None
    if not isinstance(messages, list):
        raise ValueError('"text", "prompt" and "completion", or "messages" must be there')
    for number, message in enumerate(messages, 1):
        role, content = (message.get(key) if isinstance(message, Mapping) else None for key in ("role", "content"))
        if role not in ROLES or not isinstance(content, str):
            what = f"content that is no text but {describe(content)}" if role in ROLES else f"the role {describe(role)}"
            raise ValueError(f"message {number} has {what}; turns of system, user and assistant are read, as text")
    if len(messages) < 2 or messages[-1]["role"] != "assistant" or messages[-2]["role"] != "user":
        raise ValueError("a conversation ends in a user's and an assistant's turn")
    turns: list[Message] = [{"role": message["role"], "content": message["content"]} for message in messages]
    return Sample(tuple(turns[:-1]), turns[-1]["content"])


# --- built-in texts ---------------------------------------------------------------------------------------------------


def default_texts(checkpoint: Checkpoint) -> list[Text]:
    """Texts to compare networks on: for the tiny model held-out cases of its tasks, for others `builtin_texts`."""
    return tiny_held_out() if is_tiny(checkpoint) else builtin_texts()


def training_texts(checkpoint: Checkpoint) -> list[Text]:
    """Texts to choose a rounding or a recipe by: none that a comparison masks; conversations for models that chat."""
    if is_tiny(checkpoint):
        return tiny_training()
    from dream_edge_export.checkpoint.chat_template import read_chat_format

    chats = read_chat_format(checkpoint.path) is not None
    return [text for text in calibration_texts() if chats or isinstance(text, str)]


def builtin_texts() -> list[Text]:
    """Some forty short texts of many kinds: prose, dialogue, code, arithmetic, lists."""
    return read_texts(Path(__file__).with_name("texts.txt"))


def calibration_texts() -> list[Text]:
    """Built-in texts and conversations of many kinds, none of which a comparison uses."""
    return read_texts(Path(__file__).with_name("calibration.jsonl"))


def tiny_held_out() -> list[Text]:
    """40 cases of each of the tiny model's four tasks, none of which it was trained on; `tools/tiny/texts.py` wrote
    them."""
    return read_texts(Path(__file__).with_name("tiny_held_out.jsonl"))


def tiny_training() -> list[Text]:
    """64 cases of each of the tiny model's four tasks such as it was trained on."""
    return read_texts(Path(__file__).with_name("tiny_training.jsonl"))
