"""The acts of the demonstration: what the tiny model is asked, and how its answers are checked.

Cases are drawn by a seed from those that were kept out of training, so that nobody has picked the ones that work.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dream_edge.tasks import countdown, questions, sentences, sudoku
from dream_edge.tasks.replies import reply

if TYPE_CHECKING:
    from dream_edge_runtime.generation.denoising import Denoising
    from dream_edge_runtime.model import DreamModel
    from dream_edge_runtime.text.chat import Message


@dataclass(frozen=True)
class Act:
    """One thing to ask."""

    title: str
    asked: str
    """What the audience reads first."""
    begin: Callable[[DreamModel, threading.Event], Denoising]
    solves: Callable[[str], bool]
    """Whether the generated text is right; the checkers of the tasks do not depend on what generates their cases."""
    opening: str = ""
    """What the generated text goes on from, where that makes one sentence."""


def acts(seed: int) -> list[Act]:
    rng = np.random.default_rng(seed)
    return [_sudoku(rng), _countdown(rng), _infill(rng), _ending(rng), _chat(rng)]


def _sudoku(rng: np.random.Generator) -> Act:
    case = sudoku.generate(rng, 1, held_out=True)[0]
    return Act(
        "A Sudoku (0 is a blank)",
        case.prompt,
        lambda model, cancel: model.stream(case.prompt, raw=True, max_new_tokens=24, steps=24, cancel=cancel),
        lambda text: sudoku.solves(case.prompt, text),
    )


def _countdown(rng: np.random.Generator) -> Act:
    case = countdown.generate(rng, 1, held_out=True)[0]
    return Act(
        "Countdown (reach the last number with the others)",
        case.prompt,
        lambda model, cancel: model.stream(case.prompt, raw=True, max_new_tokens=32, steps=32, cancel=cancel),
        lambda text: countdown.solves(case.prompt, text),
    )


def _infill(rng: np.random.Generator) -> Act:
    words = sentences.generate(rng, 1, held_out=True)[0].text.split(" ")
    start = len(words) // 3
    prefix, hidden, suffix = words[:start], words[start : start + 3], words[start + 3 :]

    def begin(model: DreamModel, cancel: threading.Event) -> Denoising:
        length = len(model.tokenizer.encode(" " + " ".join(hidden)))
        return model.stream_infill(" ".join(prefix), " " + " ".join(suffix), length, steps=length, cancel=cancel)

    asked = " ".join([*prefix, f"[[{len(hidden)}]]", *suffix])
    return Act("Words in the middle (any that make a grammatical sentence)", asked, begin, sentences.solves)


def _ending(rng: np.random.Generator) -> Act:
    text = sentences.generate(rng, 1, held_out=True)[0].text
    first, *middle = text.split(" ")
    ending = " " + " ".join(middle[-3:])

    def begin(model: DreamModel, cancel: threading.Event) -> Denoising:
        room = len(model.tokenizer.encode(text)) - len(model.tokenizer.encode(first))
        return model.stream(first, raw=True, end_with=ending, max_new_tokens=room, steps=room, cancel=cancel)

    return Act(
        "A fixed ending (written towards, from the first word on)",
        f"{first} …{ending}",
        begin,
        lambda generated: generated.endswith(ending) and sentences.solves(first + generated),
        opening=first,
    )


def _chat(rng: np.random.Generator) -> Act:
    prompt = questions.generate(rng, 1, held_out=True, turns=2)[0].prompt
    first, second = questions.user_turns(prompt)
    answer = reply([first]) or ""
    messages: list[Message] = [
        {"role": "user", "content": first},
        {"role": "assistant", "content": answer},
        {"role": "user", "content": second},
    ]
    return Act(
        "A conversation",
        f"user: {first}\nassistant: {answer}\nuser: {second}",
        lambda model, cancel: model.stream_chat(messages, max_new_tokens=24, steps=24, cancel=cancel),
        lambda text: questions.solves(prompt, text),
    )
