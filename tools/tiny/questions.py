"""A small closed world to talk about: ChatML conversations whose every question has exactly one right answer."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from tools.tiny.facts import ANIMALS, COLORS, DAYS, GREETINGS, MONTHS, OPPOSITES, Animal, with_article
from tools.tiny.holdout import text_held_out
from tools.tiny.replies import reply

SYSTEM = "You are a helpful assistant."
LARGEST_TERM = 10
"""Sums and differences are of numbers from 0 to 10."""

T = TypeVar("T")


@dataclass(frozen=True)
class Case:
    """A conversation up to the assistant's turn, and the one right reply."""

    prompt: str
    answer: str


@dataclass(frozen=True)
class _Turn:
    question: str
    answer: str


def solves(prompt: str, text: str) -> bool:
    """Whether `text` (up to the end of its turn) is the one right reply to the last turn of `prompt`."""
    return text.split("<|im_end|>")[0] == reply(user_turns(prompt))


def chat_prompt(questions: Sequence[str], answers: Sequence[str]) -> str:
    """The ChatML text of a conversation, up to the reply to its last question."""
    turns = [f"<|im_start|>system\n{SYSTEM}<|im_end|>\n"]
    for index, question in enumerate(questions):
        turns.append(f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n")
        if index < len(answers):
            turns.append(f"{answers[index]}<|im_end|>\n")
    return "".join(turns)


def user_turns(prompt: str) -> list[str]:
    """What the user said in a ChatML prompt, turn by turn."""
    return re.findall(r"<\|im_start\|>user\n(.*?)<\|im_end\|>", prompt, re.DOTALL)


def generate(rng: np.random.Generator, count: int, *, held_out: bool = False, turns: int | None = None) -> list[Case]:
    """Draw `count` conversations of one to three turns (or of `turns`), either all held out or none.

    A single question is held out by its wording; a conversation by all its questions together.
    """
    cases: list[Case] = []
    while len(cases) < count:
        length = turns or (1, 1, 2, 3)[int(rng.integers(4))]
        conversation = _conversation(rng, length)
        questions = [turn.question for turn in conversation]
        if text_held_out("\n".join(questions)) == held_out:
            prompt = chat_prompt(questions, [turn.answer for turn in conversation[:-1]])
            cases.append(Case(prompt, conversation[-1].answer))
    return cases


def _one_of(rng: np.random.Generator, options: Sequence[T]) -> T:
    return options[int(rng.integers(len(options)))]


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


def _conversation(rng: np.random.Generator, length: int) -> list[_Turn]:
    topic = _one_of(rng, _TOPICS) if length > 1 else _one_of(rng, (*_TOPICS, _greeting))
    conversation = [topic(rng, False)]
    while len(conversation) < length:
        if topic is _animal:
            conversation.append(_animal_follow_up(rng, conversation[-1]))
        else:
            conversation.append(topic(rng, True))
    return conversation


_ANIMAL_QUESTIONS: dict[str, tuple[str, ...]] = {
    "sound": (
        "What sound does {one} make?",
        "What sound does the {name} make?",
        "What does {one} say?",
        "What does the {name} say?",
        "Tell me the sound of {one}.",
    ),
    "young": (
        "What is a young {name} called?",
        "What is a baby {name} called?",
        "What do you call a baby {name}?",
        "Tell me the name of a baby {name}.",
    ),
    "home": (
        "Where does {one} live?",
        "Where does the {name} live?",
        "Where do {name}s live?",
        "Tell me the home of {one}.",
    ),
}
_ANIMAL_ANSWERS: dict[str, str] = {
    "sound": "{one} {sound}",
    "young": "a young {name} is called {its_young}",
    "home": "{one} lives in a {home}",
}
_BACK_REFERENCES: dict[str, tuple[str, ...]] = {
    "sound": ("And what does it say?", "What sound does it make?"),
    "young": ("And what is its baby called?", "What do you call its baby?"),
    "home": ("And where does it live?", "Where does it live?"),
}
_SAME_AGAIN = ("And {one}?", "And the {name}?", "What about {one}?", "What about the {name}?")


def _animal_turn(phrasing: str, relation: str, animal: Animal) -> _Turn:
    facts = {
        "name": animal.name,
        "one": with_article(animal.name),
        "sound": animal.sound,
        "its_young": with_article(animal.young),
        "home": animal.home,
    }
    return _Turn(phrasing.format(**facts), _sentence(_ANIMAL_ANSWERS[relation].format(**facts)))


def _animal(rng: np.random.Generator, _again: bool) -> _Turn:
    relation = _one_of(rng, tuple(_ANIMAL_QUESTIONS))
    return _animal_turn(_one_of(rng, _ANIMAL_QUESTIONS[relation]), relation, _one_of(rng, ANIMALS))


def _animal_follow_up(rng: np.random.Generator, before: _Turn) -> _Turn:
    """Either the same question about another animal, or another question about the same one."""
    relation, animal = _animal_answered(before.answer)
    if rng.random() < 0.5:
        return _animal_turn(_one_of(rng, _SAME_AGAIN), relation, _one_of(rng, ANIMALS))
    other = _one_of(rng, [name for name in _BACK_REFERENCES if name != relation])
    return _animal_turn(_one_of(rng, _BACK_REFERENCES[other]), other, animal)


def _animal_answered(answer: str) -> tuple[str, Animal]:
    words = answer.rstrip(".").split()
    relation = "young" if "called" in words else "home" if "lives" in words else "sound"
    return relation, next(animal for animal in ANIMALS if animal.name in words)


def _color(rng: np.random.Generator, again: bool) -> _Turn:
    thing = _one_of(rng, tuple(COLORS))
    phrasings = ("And the {}?", "What about the {}?") if again else _COLOR_QUESTIONS
    return _Turn(_one_of(rng, phrasings).format(thing), f"The {thing} is {COLORS[thing]}.")


_COLOR_QUESTIONS = ("What color is the {}?", "What is the color of the {}?", "Tell me the color of the {}.")


def _opposite(rng: np.random.Generator, again: bool) -> _Turn:
    word = _one_of(rng, tuple(OPPOSITES))
    phrasings = ("And of {}?", "What about {}?") if again else _OPPOSITE_QUESTIONS
    return _Turn(_one_of(rng, phrasings).format(word), f"The opposite of {word} is {OPPOSITES[word]}.")


_OPPOSITE_QUESTIONS = (
    "What is the opposite of {}?",
    "Which word is the opposite of {}?",
    "Tell me the opposite of {}.",
)


def _calendar(rng: np.random.Generator, again: bool) -> _Turn:
    noun, names = _one_of(rng, (("day", DAYS), ("month", MONTHS)))
    asked = int(rng.integers(len(names)))
    direction, step = _one_of(rng, (("after", 1), ("before", -1)))
    phrasings = ("And {1} {2}?", "What comes {1} {2}?") if again else _CALENDAR_QUESTIONS
    question = _one_of(rng, phrasings).format(noun, direction, names[asked])
    return _Turn(question, f"{names[(asked + step) % len(names)]} comes {direction} {names[asked]}.")


_CALENDAR_QUESTIONS = ("Which {0} comes {1} {2}?", "What {0} is {1} {2}?", "Tell me the {0} {1} {2}.")


def _sum(rng: np.random.Generator, again: bool) -> _Turn:
    first, second = (int(term) for term in rng.integers(LARGEST_TERM + 1, size=2))
    if rng.random() < 0.5:
        word, sign, result = "plus", "+", first + second
    else:
        first, second = max(first, second), min(first, second)
        word, sign, result = "minus", "-", first - second
    phrasings = ("And {0} {1} {3}?", "What about {0} {1} {3}?") if again else _SUM_QUESTIONS
    return _Turn(_one_of(rng, phrasings).format(first, word, sign, second), f"{first} {word} {second} is {result}.")


_SUM_QUESTIONS = (
    "What is {0} {1} {3}?",
    "What is {0} {2} {3}?",
    "How much is {0} {1} {3}?",
    "How much is {0} {2} {3}?",
)


def _greeting(rng: np.random.Generator, _again: bool) -> _Turn:
    question = _one_of(rng, tuple(GREETINGS))
    return _Turn(question, GREETINGS[question])


_Topic = Callable[[np.random.Generator, bool], _Turn]
_TOPICS: tuple[_Topic, ...] = (_animal, _animal, _color, _opposite, _opposite, _calendar, _sum, _sum, _sum)

RECORD = {
    "type": "object",
    "properties": {"answer": {"type": "string", "minLength": 1}},
    "required": ["answer"],
    "additionalProperties": False,
}
"""The JSON schema of an answer that a program can read."""


def as_record(case: Case) -> Case:
    """The same question, whose answer is wanted as a `RECORD`."""
    prompt, turn = case.prompt.rsplit("<|im_end|>", 1)
    return Case(f"{prompt} Answer as JSON.<|im_end|>{turn}", json.dumps({"answer": case.answer}))
