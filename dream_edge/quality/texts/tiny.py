"""Texts for the bundled tiny model, whose world is small: held-out cases of the tasks it has learnt."""

from __future__ import annotations

import re

import numpy as np

from dream_edge.tasks import countdown, questions, sentences, sudoku
from dream_edge_runtime.text.chat import Message

from .read import Sample, Text

_TURN = re.compile(r"<\|im_start\|>(system|user|assistant)\n(.*?)<\|im_end\|>", re.DOTALL)
CASES_OF_EACH = 40


def tiny_texts(seed: int = 0, cases: int = CASES_OF_EACH, *, held_out: bool = True) -> list[Text]:
    """`cases` cases of each of the four tasks, none of which was trained on; with `held_out` false, such as were."""
    rngs = [np.random.default_rng([seed, task]) for task in range(4)]
    return [
        *(Sample(case.prompt, case.answer) for case in sudoku.generate(rngs[0], cases, held_out=held_out)),
        *(Sample(case.prompt, case.answer) for case in countdown.generate(rngs[1], cases, held_out=held_out)),
        *(
            Sample(messages_of(case.prompt), case.answer)
            for case in questions.generate(rngs[2], cases, held_out=held_out)
        ),
        *(case.text for case in sentences.generate(rngs[3], cases, held_out=held_out)),
    ]


def messages_of(prompt: str) -> tuple[Message, ...]:
    """The turns of a ChatML text, without the opening of the reply."""
    turns: list[Message] = [
        {"role": "system" if role == "system" else "user" if role == "user" else "assistant", "content": content}
        for role, content in _TURN.findall(prompt)
    ]
    return tuple(turns)
