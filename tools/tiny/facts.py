"""What is true in the small world that conversations are about."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Animal:
    """What the world knows about an animal."""

    name: str
    sound: str
    young: str
    home: str


ANIMALS: tuple[Animal, ...] = tuple(
    Animal(*facts.split("/"))
    for facts in (
        "cat/meows/kitten/house",
        "dog/barks/puppy/kennel",
        "cow/moos/calf/barn",
        "horse/neighs/foal/stable",
        "duck/quacks/duckling/pond",
        "lion/roars/cub/den",
        "owl/hoots/owlet/tree",
        "frog/croaks/tadpole/river",
        "bee/buzzes/larva/hive",
        "pig/oinks/piglet/sty",
        "goat/bleats/kid/shed",
        "hen/clucks/chick/coop",
    )
)

COLORS: dict[str, str] = {
    "sky": "blue",
    "sea": "blue",
    "grass": "green",
    "frog": "green",
    "snow": "white",
    "milk": "white",
    "coal": "black",
    "night": "black",
    "sun": "yellow",
    "lemon": "yellow",
    "blood": "red",
    "rose": "red",
    "carrot": "orange",
    "pig": "pink",
}

_PAIRS = "big/small old/young happy/sad hot/cold fast/slow day/night black/white good/bad full/empty loud/quiet wet/dry"
OPPOSITES: dict[str, str] = {
    word: opposite for pair in _PAIRS.split() for word, opposite in (pair.split("/"), pair.split("/")[::-1])
}

DAYS: tuple[str, ...] = tuple("Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split())
MONTHS: tuple[str, ...] = tuple(
    "January February March April May June July August September October November December".split()
)

GREETINGS: dict[str, str] = {
    "Hello!": "Hello! How can I help you?",
    "Hi!": "Hello! How can I help you?",
    "Good morning!": "Good morning! How can I help you?",
    "How are you?": "I am happy. How can I help you?",
    "Who are you?": "I am a tiny Dream.",
    "What are you?": "I am a tiny Dream.",
    "Thank you!": "You are welcome.",
    "Good night!": "Good night!",
}


def with_article(name: str) -> str:
    """`name` after "a" or "an"."""
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
