"""The words of the sentence world, and what agrees with what."""

from dataclasses import dataclass
from functools import cache
from typing import Literal

Number = Literal["singular", "plural"]
Kind = Literal["person", "animal", "thing", "place"]
Tense = Literal["past", "present", "future"]
Gender = Literal["he", "she", "it", "they"]
"""A subject pronoun names what its other forms agree with."""


@dataclass(frozen=True)
class Noun:
    """A noun, named by the pronoun that stands for one of it."""

    singular: str
    plural: str
    kind: Kind
    gender: Gender

    def form(self, number: Number) -> str:
        return self.singular if number == "singular" else self.plural


@dataclass(frozen=True)
class Verb:
    """`base` also serves for the plural present and after "will"; `third` is the singular present."""

    base: str
    third: str
    past: str

    def form(self, number: Number, tense: Tense) -> str:
        """The words for a third-person subject."""
        match tense:
            case "past":
                return self.past
            case "future":
                return f"will {self.base}"
            case "present":
                return self.third if number == "singular" else self.base


def _nouns(kind: Kind, gender: Gender, forms: str) -> tuple[Noun, ...]:
    pairs = [form.split("/") for form in forms.split()]
    return tuple(Noun(singular, plural, kind, gender) for singular, plural in pairs)


def _verbs(forms: str) -> tuple[Verb, ...]:
    return tuple(Verb(*form.split("/")) for form in forms.split())


MEN: tuple[str, ...] = ("Ben", "Tom", "Adam", "Leo")
WOMEN: tuple[str, ...] = ("Anna", "Clara", "Emma", "Mia")

PEOPLE = _nouns("person", "he", "boy/boys man/men king/kings uncle/uncles") + _nouns(
    "person", "she", "girl/girls woman/women queen/queens aunt/aunts"
)
ANIMALS = _nouns(
    "animal",
    "it",
    "cat/cats dog/dogs cow/cows horse/horses duck/ducks lion/lions "
    "owl/owls frog/frogs bee/bees pig/pigs goat/goats hen/hens",
)
THINGS = _nouns(
    "thing", "it", "ball/balls book/books hat/hats apple/apples egg/eggs umbrella/umbrellas cake/cakes bell/bells"
)
PLACES = _nouns("place", "it", "garden/gardens river/rivers house/houses hill/hills tree/trees island/islands")

INTRANSITIVE = _verbs(
    "sleep/sleeps/slept sing/sings/sang swim/swims/swam wait/waits/waited play/plays/played "
    "jump/jumps/jumped dance/dances/danced run/runs/ran"
)
TRANSITIVE = _verbs(
    "see/sees/saw like/likes/liked find/finds/found carry/carries/carried want/wants/wanted "
    "watch/watches/watched follow/follows/followed"
)
REFLEXIVE = _verbs("wash/washes/washed hide/hides/hid help/helps/helped")

MOODS: tuple[str, ...] = ("happy", "angry", "hungry", "quiet", "young")
SHAPES: tuple[str, ...] = ("big", "small", "old", "ugly")
COLORS: tuple[str, ...] = ("red", "blue", "green", "white", "black", "orange")

BEFITTING: dict[Kind, tuple[str, ...]] = {
    "person": MOODS + SHAPES,
    "animal": MOODS + SHAPES + COLORS,
    "thing": SHAPES + COLORS,
    "place": SHAPES + COLORS,
}
"""The adjectives that a noun may have. Names and couples count as persons."""

PREPOSITIONS: tuple[str, ...] = ("near", "in", "behind", "under")

DETERMINERS: dict[Number, tuple[str, ...]] = {
    "singular": ("the", "a", "an", "this", "that", "every"),
    "plural": ("the", "these", "those", "two", "three", "many", "some"),
}
INDEFINITE: dict[Number, tuple[str, ...]] = {
    "singular": ("a", "an"),
    "plural": ("two", "three", "many", "some"),
}

OBJECT_PRONOUN: dict[Gender, str] = {"he": "him", "she": "her", "it": "it", "they": "them"}
POSSESSIVE: dict[Gender, str] = {"he": "his", "she": "her", "it": "its", "they": "their"}
REFLEXIVE_PRONOUN: dict[Gender, str] = {
    "he": "himself",
    "she": "herself",
    "it": "itself",
    "they": "themselves",
}

CUES: dict[Tense, str] = {"past": "yesterday", "present": "now", "future": "tomorrow"}

COPULA: dict[tuple[Number, Tense], str] = {
    ("singular", "present"): "is",
    ("plural", "present"): "are",
    ("singular", "past"): "was",
    ("plural", "past"): "were",
    ("singular", "future"): "will be",
    ("plural", "future"): "will be",
}


def article_fits(article: str, next_word: str) -> bool:
    """Whether "a" or "an" may stand before `next_word`; any other determiner may."""
    if article not in ("a", "an"):
        return True
    return (article == "an") == (next_word[0].lower() in "aeiou")


@cache
def nouns_by_form() -> dict[str, tuple[Noun, Number]]:
    """Every form of every noun, with the noun and the number it shows."""
    forms: dict[str, tuple[Noun, Number]] = {}
    for noun in PEOPLE + ANIMALS + THINGS + PLACES:
        forms[noun.singular] = (noun, "singular")
        forms[noun.plural] = (noun, "plural")
    return forms
