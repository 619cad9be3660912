"""Decides whether a text is grammatical in the sentence world, by parsing it in every possible way.

Each parser takes the position of a word and yields the positions at which what it looks for may end.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from tools.tiny.lexicon import (
    BEFITTING,
    COPULA,
    CUES,
    DETERMINERS,
    INDEFINITE,
    INTRANSITIVE,
    MEN,
    OBJECT_PRONOUN,
    POSSESSIVE,
    PREPOSITIONS,
    REFLEXIVE,
    REFLEXIVE_PRONOUN,
    TRANSITIVE,
    WOMEN,
    Gender,
    Kind,
    Number,
    Tense,
    Verb,
    article_fits,
    nouns_by_form,
)

_TOKEN = re.compile(r"[A-Za-z]+|,")
_LIVING: tuple[Kind, ...] = ("person", "animal")
_TENSES: tuple[Tense, ...] = ("past", "present", "future")
_NARRATIVE: tuple[Tense, ...] = ("past", "present")


@dataclass(frozen=True)
class _Phrase:
    number: Number
    gender: Gender
    kind: Kind
    head: str
    is_bare: bool = False
    """A name or a couple: nothing modifies it."""


def is_grammatical(text: str) -> bool:
    """Whether `text` is one sentence of this world, or a story of two or three."""
    sentences = [_words(sentence) for sentence in re.findall(r"[^.]+\.", text)]
    if not sentences or None in sentences or _spelled(sentences) != text:
        return False
    parsers = [_Parser(words) for words in sentences if words]
    if len(parsers) == 1:
        return parsers[0].is_sentence()
    return len(parsers) in (2, 3) and _is_story(parsers)


def _words(sentence: str) -> list[str] | None:
    """The words and commas of a sentence, its first word in lower case unless it is a name; None if wrongly begun."""
    words = _TOKEN.findall(sentence)
    if not words or not words[0][0].isupper():
        return None
    if words[0] not in MEN + WOMEN:
        words[0] = words[0].lower()
    return words


def _spelled(sentences: Sequence[list[str] | None]) -> str:
    """The one right spelling of sentences: spaces, capitals, full stops."""
    joined = (" ".join(words or []).replace(" ,", ",") + "." for words in sentences)
    return " ".join(sentence[0].upper() + sentence[1:] for sentence in joined)


def _is_story(parsers: Sequence["_Parser"]) -> bool:
    """Someone does something to something new; a pronoun for each comes back; perhaps the thing is described."""
    opening, follow, *ending = parsers
    for tense in _NARRATIVE:
        for subject, thing in opening.opening(tense):
            if not follow.follows(subject, thing, tense):
                continue
            if not ending or ending[0].describes(thing, tense):
                return True
    return False


class _Parser:
    """The words of one sentence."""

    def __init__(self, words: list[str]) -> None:
        self.words = words

    def word(self, at: int) -> str:
        return self.words[at] if at < len(self.words) else ""

    def ends(self, positions: Iterable[int]) -> bool:
        return any(position == len(self.words) for position in positions)

    def is_sentence(self) -> bool:
        match self.words[0]:
            case "there":
                return any(self.ends(self.existential(1, tense)) for tense in _TENSES)
            case "when":
                return any(self.ends(self.when(1, tense)) for tense in _NARRATIVE)
        return any(self.is_simple(tense) for tense in _TENSES) or any(
            self.ends(self.because(0, tense)) for tense in _NARRATIVE
        )

    def is_simple(self, tense: Tense) -> bool:
        """A clause, with the tense's cue word before it, after it or not at all."""
        cue = CUES[tense]
        if self.words[0] == cue:
            return self.ends(self.clause(1, tense))
        return any(self.words[end:] in ([], [cue]) for end in self.clause(0, tense))

    def clause(self, at: int, tense: Tense) -> Iterator[int]:
        for middle, subject in self.subject(at, tense):
            yield from self.predicate(middle, subject, tense)

    def existential(self, at: int, tense: Tense) -> Iterator[int]:
        numbers: tuple[Number, ...] = ("singular", "plural")
        for number in numbers:
            for copula in self.exactly(at, COPULA[number, tense]):
                for middle, phrase in self.determined(copula, INDEFINITE, ("person", "animal", "thing")):
                    if phrase.number == number:
                        yield from self.location(middle)

    def when(self, at: int, tense: Tense) -> Iterator[int]:
        for middle, subject in self.living(at):
            for comma in (*self.mood(middle, subject, tense), *self.action(middle, subject, tense)):
                if self.words[comma : comma + 2] == [",", subject.gender]:
                    yield from self.predicate(comma + 2, subject, tense)

    def because(self, at: int, tense: Tense) -> Iterator[int]:
        for middle, subject in self.subject(at, tense):
            for end in self.verb(middle, INTRANSITIVE, subject.number, tense):
                if self.words[end : end + 2] == ["because", subject.gender]:
                    yield from self.mood(end + 2, subject, tense)

    def opening(self, tense: Tense) -> Iterator[tuple[_Phrase, _Phrase]]:
        start = 1 if self.words[0] == CUES[tense] else 0
        for middle, subject in self.living(start):
            if subject.kind == "animal":
                continue
            for verb in self.verb(middle, TRANSITIVE, subject.number, tense):
                for end, thing in self.determined(verb, INDEFINITE, ("animal", "thing")):
                    if end == len(self.words):
                        yield subject, thing

    def follows(self, subject: _Phrase, thing: _Phrase, tense: Tense) -> bool:
        if self.words[0] != subject.gender:
            return False
        for verb in self.verb(1, TRANSITIVE, subject.number, tense):
            for end in self.exactly(verb, OBJECT_PRONOUN[thing.gender]):
                if self.ends((end, *self.location(end))):
                    return True
        return False

    def describes(self, thing: _Phrase, tense: Tense) -> bool:
        wanted = ["the", thing.head, *COPULA[thing.number, tense].split()]
        return self.words[:-1] == wanted and self.words[-1] in BEFITTING[thing.kind]

    def subject(self, at: int, tense: Tense) -> Iterator[tuple[int, _Phrase]]:
        for end, phrase in self.living(at):
            yield end, phrase
            if self.word(end) == "and":
                for second, _ in self.living(end + 1):
                    yield second, _Phrase("plural", "they", "person", "", is_bare=True)
            if not phrase.is_bare:
                for modified in (*self.location(end), *self.relative(end, phrase, tense)):
                    yield modified, phrase

    def relative(self, at: int, head: _Phrase, tense: Tense) -> Iterator[int]:
        if tense == "future":
            return
        if self.word(at) == ("who" if head.kind == "person" else "that"):
            yield from self.verb(at + 1, INTRANSITIVE, head.number, tense)
            yield from self.deed(at + 1, head, tense)
        if self.word(at) == "that" and head.kind == "animal":
            for middle, owner in self.living(at + 1):
                yield from self.verb(middle, TRANSITIVE, owner.number, tense)

    def predicate(self, at: int, subject: _Phrase, tense: Tense) -> Iterator[int]:
        parsers: tuple[Callable[[int, _Phrase, Tense], Iterator[int]], ...] = (
            self.action,
            self.deed,
            self.possession,
            self.reflexive,
            self.mood,
        )
        for parse in parsers:
            yield from parse(at, subject, tense)

    def action(self, at: int, subject: _Phrase, tense: Tense) -> Iterator[int]:
        for end in self.verb(at, INTRANSITIVE, subject.number, tense):
            yield end
            yield from self.location(end)

    def deed(self, at: int, subject: _Phrase, tense: Tense) -> Iterator[int]:
        for end in self.verb(at, TRANSITIVE, subject.number, tense):
            yield from (after for after, _ in self.living(end))
            yield from (after for after, _ in self.determined(end, DETERMINERS, ("thing",)))

    def possession(self, at: int, subject: _Phrase, tense: Tense) -> Iterator[int]:
        for verb in self.verb(at, TRANSITIVE, subject.number, tense):
            for end in self.exactly(verb, POSSESSIVE[subject.gender]):
                yield from (after for after, _ in self.described(end, ("animal", "thing")))

    def reflexive(self, at: int, subject: _Phrase, tense: Tense) -> Iterator[int]:
        for verb in self.verb(at, REFLEXIVE, subject.number, tense):
            for end in self.exactly(verb, REFLEXIVE_PRONOUN[subject.gender]):
                yield end
                yield from self.location(end)

    def mood(self, at: int, subject: _Phrase, tense: Tense) -> Iterator[int]:
        for end in self.exactly(at, COPULA[subject.number, tense]):
            if self.word(end) in BEFITTING[subject.kind]:
                yield end + 1

    def living(self, at: int) -> Iterator[tuple[int, _Phrase]]:
        if self.word(at) in MEN:
            yield at + 1, _Phrase("singular", "he", "person", self.word(at), is_bare=True)
        elif self.word(at) in WOMEN:
            yield at + 1, _Phrase("singular", "she", "person", self.word(at), is_bare=True)
        else:
            yield from self.determined(at, DETERMINERS, _LIVING)

    def location(self, at: int) -> Iterator[int]:
        if self.word(at) in PREPOSITIONS:
            yield from (end for end, _ in self.determined(at + 1, DETERMINERS, ("place",)))

    def determined(
        self, at: int, determiners: dict[Number, tuple[str, ...]], kinds: Sequence[Kind]
    ) -> Iterator[tuple[int, _Phrase]]:
        """A determiner that agrees, then a noun of one of `kinds`, perhaps described."""
        for end, phrase in self.described(at + 1, kinds):
            determiner = self.word(at)
            if determiner in determiners[phrase.number] and article_fits(determiner, self.word(at + 1)):
                yield end, phrase

    def described(self, at: int, kinds: Sequence[Kind]) -> Iterator[tuple[int, _Phrase]]:
        """A noun of one of `kinds`, perhaps after an adjective that befits it."""
        for named in (at, at + 1):
            form = self.word(named)
            if form not in nouns_by_form():
                continue
            noun, number = nouns_by_form()[form]
            if noun.kind in kinds and (named == at or self.word(at) in BEFITTING[noun.kind]):
                yield named + 1, _Phrase(number, "they" if number == "plural" else noun.gender, noun.kind, form)

    def verb(self, at: int, verbs: Sequence[Verb], number: Number, tense: Tense) -> Iterator[int]:
        for verb in verbs:
            yield from self.exactly(at, verb.form(number, tense))

    def exactly(self, at: int, phrase: str) -> Iterator[int]:
        wanted = phrase.split()
        if self.words[at : at + len(wanted)] == wanted:
            yield at + len(wanted)
