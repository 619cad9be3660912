"""Plain English for infilling: sentences whose words constrain each other across a distance.

Verbs agree with their subjects past intervening nouns, determiners with nouns, pronouns with what they refer to,
and tenses with cue words. Generation and checking share only the lexicon.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np

from tools.tiny.grammar import is_grammatical
from tools.tiny.holdout import text_held_out
from tools.tiny.lexicon import (
    ANIMALS,
    BEFITTING,
    COPULA,
    CUES,
    DETERMINERS,
    INDEFINITE,
    INTRANSITIVE,
    MEN,
    OBJECT_PRONOUN,
    PEOPLE,
    PLACES,
    POSSESSIVE,
    PREPOSITIONS,
    REFLEXIVE,
    REFLEXIVE_PRONOUN,
    THINGS,
    TRANSITIVE,
    WOMEN,
    Gender,
    Kind,
    Noun,
    Number,
    Tense,
    article_fits,
)

T = TypeVar("T")

FEWEST_WORDS, MOST_WORDS = 6, 20


@dataclass(frozen=True)
class Case:
    """One to three sentences."""

    text: str


@dataclass(frozen=True)
class _Phrase:
    text: str
    number: Number
    gender: Gender
    kind: Kind
    noun: Noun | None


def solves(text: str) -> bool:
    """Whether `text` is grammatical in this world: word order, agreement, reference and tense are all consistent."""
    return is_grammatical(text)


def generate(rng: np.random.Generator, count: int, *, held_out: bool = False) -> list[Case]:
    """Draw `count` texts of 6 to 20 words, either all held out or none."""
    writer = _Writer(rng)

    def texts() -> Iterable[str]:
        while True:
            text = writer.text()
            if FEWEST_WORDS <= len(text.split()) <= MOST_WORDS and text_held_out(text) == held_out:
                yield text

    return [Case(text) for text in islice(texts(), count)]


def about(rng: np.random.Generator, noun: Noun) -> str:
    """One sentence whose subject is `noun`."""
    return _Writer(rng).about(noun)


def _capitalized(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:] + "."


class _Writer:
    """Writes sentences; every draw comes from one generator."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def text(self) -> str:
        writers = (self.simple, self.simple, self.simple, self.existential, self.when, self.because, self.story)
        return self.one_of(writers)()

    def about(self, noun: Noun) -> str:
        number: Number = "plural" if self.chance(0.3) else "singular"
        gender: Gender = "they" if number == "plural" else noun.gender
        subject = _Phrase(f"the {noun.form(number)}", number, gender, noun.kind, noun)
        tense = self.one_of(tuple(CUES))
        return _capitalized(f"{subject.text} {self.predicate(subject, tense)}")

    def simple(self) -> str:
        tense = self.one_of(tuple(CUES))
        subject = self.subject(tense)
        clause = f"{subject.text} {self.predicate(subject, tense)}"
        match self.rng.integers(3):
            case 0:
                clause = f"{CUES[tense]} {clause}"
            case 1:
                clause = f"{clause} {CUES[tense]}"
        return _capitalized(clause)

    def existential(self) -> str:
        tense = self.one_of(tuple(CUES))
        number = self.number()
        noun = self.one_of(self.one_of((PEOPLE, ANIMALS, THINGS)))
        phrase = self.phrase(noun, number, INDEFINITE[number])
        return _capitalized(f"there {COPULA[number, tense]} {phrase.text} {self.location()}")

    def when(self) -> str:
        tense: Tense = self.one_of(("past", "present"))
        subject = self.living()
        clause = self.one_of((self.mood, self.action))(subject, tense)
        follow = self.predicate(self.pronoun(subject), tense)
        return _capitalized(f"when {subject.text} {clause}, {subject.gender} {follow}")

    def because(self) -> str:
        tense: Tense = self.one_of(("past", "present"))
        subject = self.subject(tense)
        verb = self.one_of(INTRANSITIVE).form(subject.number, tense)
        reason = self.mood(self.pronoun(subject), tense)
        return _capitalized(f"{subject.text} {verb} because {subject.gender} {reason}")

    def story(self) -> str:
        tense: Tense = self.one_of(("past", "present"))
        subject = self.person()
        number = self.number()
        thing = self.phrase(self.one_of(self.one_of((ANIMALS, THINGS))), number, INDEFINITE[number])
        first = f"{subject.text} {self.one_of(TRANSITIVE).form(subject.number, tense)} {thing.text}"
        if self.chance(0.3):
            first = f"{CUES[tense]} {first}"
        verb = self.one_of(TRANSITIVE).form(subject.number, tense)
        second = f"{subject.gender} {verb} {OBJECT_PRONOUN[thing.gender]}"
        if self.chance(0.4):
            second = f"{second} {self.location()}"
        sentences = [first, second]
        if thing.noun is not None and self.chance(0.4):
            quality = self.one_of(BEFITTING[thing.kind])
            sentences.append(f"the {thing.noun.form(number)} {COPULA[number, tense]} {quality}")
        return " ".join(map(_capitalized, sentences))

    def subject(self, tense: Tense) -> _Phrase:
        subject = self.couple() if self.chance(0.12) else self.living()
        if subject.noun is None:
            return subject
        match self.rng.integers(4):
            case 0:
                modifier = self.location()
            case 1 if tense != "future":
                modifier = self.relative(subject, subject.noun, tense)
            case _:
                return subject
        return _Phrase(f"{subject.text} {modifier}", subject.number, subject.gender, subject.kind, subject.noun)

    def relative(self, head: _Phrase, noun: Noun, tense: Tense) -> str:
        relative = "who" if noun.kind == "person" else "that"
        if noun.kind == "animal" and self.chance(0.5):
            owner = self.living()
            return f"that {owner.text} {self.one_of(TRANSITIVE).form(owner.number, tense)}"
        if self.chance(0.5):
            return f"{relative} {self.one_of(INTRANSITIVE).form(head.number, tense)}"
        return f"{relative} {self.one_of(TRANSITIVE).form(head.number, tense)} {self.object().text}"

    def predicate(self, subject: _Phrase, tense: Tense) -> str:
        kinds = (self.action, self.deed, self.deed, self.possession, self.reflexive, self.mood)
        return self.one_of(kinds)(subject, tense)

    def action(self, subject: _Phrase, tense: Tense) -> str:
        verb = self.one_of(INTRANSITIVE).form(subject.number, tense)
        return f"{verb} {self.location()}" if self.chance(0.6) else verb

    def deed(self, subject: _Phrase, tense: Tense) -> str:
        return f"{self.one_of(TRANSITIVE).form(subject.number, tense)} {self.object().text}"

    def possession(self, subject: _Phrase, tense: Tense) -> str:
        verb = self.one_of(TRANSITIVE).form(subject.number, tense)
        owned = self.one_of(self.one_of((ANIMALS, THINGS)))
        quality = f"{self.one_of(BEFITTING[owned.kind])} " if self.chance(0.3) else ""
        return f"{verb} {POSSESSIVE[subject.gender]} {quality}{owned.form(self.number())}"

    def reflexive(self, subject: _Phrase, tense: Tense) -> str:
        clause = f"{self.one_of(REFLEXIVE).form(subject.number, tense)} {REFLEXIVE_PRONOUN[subject.gender]}"
        return f"{clause} {self.location()}" if self.chance(0.4) else clause

    def mood(self, subject: _Phrase, tense: Tense) -> str:
        return f"{COPULA[subject.number, tense]} {self.one_of(BEFITTING[subject.kind])}"

    def living(self) -> _Phrase:
        if self.chance(0.6):
            return self.person()
        number = self.number()
        return self.phrase(self.one_of(ANIMALS), number, DETERMINERS[number])

    def person(self) -> _Phrase:
        if self.chance(0.3):
            return self.named()
        number = self.number()
        return self.phrase(self.one_of(PEOPLE), number, DETERMINERS[number])

    def named(self) -> _Phrase:
        if self.chance(0.5):
            return _Phrase(self.one_of(MEN), "singular", "he", "person", None)
        return _Phrase(self.one_of(WOMEN), "singular", "she", "person", None)

    def couple(self) -> _Phrase:
        return _Phrase(f"{self.living().text} and {self.living().text}", "plural", "they", "person", None)

    def pronoun(self, antecedent: _Phrase) -> _Phrase:
        return _Phrase(antecedent.gender, antecedent.number, antecedent.gender, antecedent.kind, None)

    def object(self) -> _Phrase:
        if self.chance(0.15):
            return self.named()
        number = self.number()
        return self.phrase(self.one_of(self.one_of((PEOPLE, ANIMALS, THINGS, THINGS))), number, DETERMINERS[number])

    def location(self) -> str:
        number = self.number()
        place = self.phrase(self.one_of(PLACES), number, DETERMINERS[number])
        return f"{self.one_of(PREPOSITIONS)} {place.text}"

    def phrase(self, noun: Noun, number: Number, determiners: Sequence[str]) -> _Phrase:
        words = [self.one_of(BEFITTING[noun.kind])] if self.chance(0.3) else []
        words.append(noun.form(number))
        determiner = self.one_of([word for word in determiners if article_fits(word, words[0])])
        gender: Gender = "they" if number == "plural" else noun.gender
        return _Phrase(" ".join([determiner, *words]), number, gender, noun.kind, noun)

    def number(self) -> Number:
        return "plural" if self.chance(0.4) else "singular"

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def one_of(self, options: Sequence[T]) -> T:
        return options[int(self.rng.integers(len(options)))]
