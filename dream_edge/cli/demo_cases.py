"""The cases of the demonstration: what the tiny model is asked, and how its answers are checked.

Cases are drawn by a seed from those that were kept out of training, so that nobody has picked the ones that work.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np

from dream_edge.tasks import COUNTDOWN, SUDOKU, Task

if TYPE_CHECKING:
    from dream_edge_runtime.generation.denoising import Denoising
    from dream_edge_runtime.model import DreamModel
    from dream_edge_runtime.text.chat import Message


@dataclass(frozen=True)
class DemoCase:
    """One thing to ask."""

    title: str
    question: str
    """What is shown first."""
    begin: Callable[[DreamModel, threading.Event], Denoising]
    solves: Callable[[str], bool]
    """Whether the generated text is right; the checkers of the tasks do not depend on what generates their cases."""
    opening: str = ""
    """What the generated text goes on from, where that makes one sentence."""


def draw_cases(seed: int) -> list[DemoCase]:
    """One case of each kind."""
    rng = np.random.default_rng(seed)
    return [
        _puzzle("A Sudoku (0 is a blank)", SUDOKU, rng),
        _puzzle("Countdown (reach the last number with the others)", COUNTDOWN, rng),
        _infill(rng),
        _ending(rng),
        _chat(rng),
    ]


def _puzzle(title: str, task: Task, rng: np.random.Generator) -> DemoCase:
    [case] = task.generate(rng, 1, held_out=True)
    room = task.new_tokens
    return DemoCase(
        title,
        case.prompt,
        lambda model, cancel: model.stream(case.prompt, raw=True, max_new_tokens=room, steps=room, cancel=cancel),
        lambda text: task.solves(case.prompt, text),
    )


def _infill(rng: np.random.Generator) -> DemoCase:
    case = _draw(rng, "infill")
    hidden = case["hidden"]

    def begin(model: DreamModel, cancel: threading.Event) -> Denoising:
        length = model.count_tokens(hidden)
        return model.stream_infill(case["prefix"], case["suffix"], length, steps=length, cancel=cancel)

    return DemoCase(
        "Words in the middle (any that make a grammatical sentence)",
        f"{case['prefix']} [[{len(hidden.split())}]]{case['suffix']}",
        begin,
        lambda text: re.fullmatch(case["right"], text) is not None,
    )


def _ending(rng: np.random.Generator) -> DemoCase:
    case = _draw(rng, "ending")
    first, ending = case["first"], case["ending"]

    def begin(model: DreamModel, cancel: threading.Event) -> Denoising:
        room = model.count_tokens(first + case["middle"] + ending) - model.count_tokens(first)
        return model.stream(first, raw=True, end_with=ending, max_new_tokens=room, steps=room, cancel=cancel)

    return DemoCase(
        "A fixed ending (written towards, from the first word on)",
        f"{first} …{ending}",
        begin,
        lambda text: re.fullmatch(case["right"], text) is not None,
        opening=first,
    )


def _chat(rng: np.random.Generator) -> DemoCase:
    case = _draw(rng, "chat")
    messages: list[Message] = case["messages"]
    return DemoCase(
        "A conversation",
        "\n".join(f"{message['role']}: {message['content']}" for message in messages),
        lambda model, cancel: model.stream_chat(messages, max_new_tokens=24, steps=24, cancel=cancel),
        lambda text: text == case["answer"],
    )


def _draw(rng: np.random.Generator, kind: str) -> dict[str, Any]:
    """One of the prepared cases of kind `kind`, with the pattern of all its right answers (`tools/tiny/texts.py`)."""
    cases: list[dict[str, Any]] = json.loads(
        resources.files(__package__).joinpath("demo_cases.json").read_text("utf-8")
    )[kind]
    return cases[int(rng.integers(len(cases)))]
