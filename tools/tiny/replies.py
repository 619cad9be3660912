"""Works out the one right reply to a conversation by understanding its questions, one after the other."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from tools.tiny.facts import ANIMALS, COLORS, DAYS, GREETINGS, MONTHS, OPPOSITES, Animal, with_article

Relation = Literal["sound", "young", "home"]

_RELATIONS: dict[Relation, re.Pattern[str]] = {
    "sound": re.compile(r"\b(sound|say)\b"),
    "young": re.compile(r"\b(young \w+|baby)\b"),
    "home": re.compile(r"\b(lives?|home)\b"),
}


def reply(questions: Sequence[str]) -> str | None:
    """The right reply to the last of `questions`, which may refer back to earlier ones; None if there is none."""
    listener = _Listener()
    answer: str | None = None
    for question in questions:
        answer = listener.answer(question)
    return answer


@dataclass
class _Listener:
    """Remembers what was last talked about."""

    topic: str = ""
    relation: Relation | None = None
    animal: Animal | None = None
    animals: dict[str, Animal] = field(default_factory=lambda: {animal.name: animal for animal in ANIMALS})

    def answer(self, question: str) -> str | None:
        if question in GREETINGS:
            return GREETINGS[question]
        if match := re.search(r"(\d+) (plus|minus|[-+]) (\d+)", question):
            return _sum(int(match[1]), "plus" if match[2] in ("plus", "+") else "minus", int(match[3]))
        if match := re.search(r"(after|before) (\w+)", question):
            return _neighbour(match[1], match[2])
        for topic in ("opposite", "color"):
            if topic in question:
                self.topic = topic
                return self.about(question)
        if any(pattern.search(question) for pattern in _RELATIONS.values()):
            self.topic = "animal"
        return self.about(question)

    def about(self, question: str) -> str | None:
        words = re.findall(r"\w+", question)
        match self.topic:
            case "opposite":
                return f"The opposite of {words[-1]} is {OPPOSITES[words[-1]]}." if words[-1] in OPPOSITES else None
            case "color":
                return f"The {words[-1]} is {COLORS[words[-1]]}." if words[-1] in COLORS else None
            case "animal":
                return self.about_animal(question, words)
        return None

    def about_animal(self, question: str, words: Sequence[str]) -> str | None:
        for relation, pattern in _RELATIONS.items():
            if pattern.search(question):
                self.relation = relation
        named = [self.animals[word.removesuffix("s")] for word in words if word.removesuffix("s") in self.animals]
        self.animal = named[0] if named else self.animal
        if self.animal is None or self.relation is None:
            return None
        subject = with_article(self.animal.name)
        match self.relation:
            case "sound":
                return f"{subject[0].upper()}{subject[1:]} {self.animal.sound}."
            case "young":
                return f"A young {self.animal.name} is called {with_article(self.animal.young)}."
            case "home":
                return f"{subject[0].upper()}{subject[1:]} lives in a {self.animal.home}."


def _sum(first: int, word: str, second: int) -> str:
    return f"{first} {word} {second} is {first + second if word == 'plus' else first - second}."


def _neighbour(direction: str, name: str) -> str | None:
    for names in (DAYS, MONTHS):
        if name in names:
            step = 1 if direction == "after" else -1
            return f"{names[(names.index(name) + step) % len(names)]} comes {direction} {name}."
    return None
