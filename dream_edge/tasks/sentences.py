"""Writing sentences: with given words, in other words, and in fewer words.

After the five tasks of text writing in ParallelBench (arXiv 2510.04767, ICLR 2026), with words, texts and checkers of
our own. Theirs are scored by a grammar service, by BERTScore and BLEU, and by ROUGE-L against a person's summary. Ours
need no network and no service, and so say less: whether the facts are in the text, and whether its neighbouring words
go together. What parallel reveal does to sentences shows there: doubled words, missing ones, articles that disagree.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise

import numpy as np

from .task import Case, Generator, Task, draw_one_by_one

_SENTENCE = re.compile(r"[A-Z][A-Za-z0-9 ,;:'’()–—-]*[.!?]")
_SPACING = re.compile(r" [,.;:!?]|[,;:]{2}|  |\( | \)|,[A-Za-z]")
_ARTICLES = frozenset({"a", "an", "the"})
_LEADING = _ARTICLES | frozenset("of and or to in on at with for from by my his her their is was are were".split())
"""Words that another one follows."""
_NEVER_AFTER_ARTICLE = _LEADING - {"in", "on", "by"} | {"it", "he", "she", "they", "i"}
_REPEATABLE = frozenset({"had", "that"})
_VOWEL_AT_SIGHT, _SOUNDS_OTHERWISE = "aeiou", ("uni", "use", "eu", "one", "hour", "honest", "heir", "ubi")


def is_well_formed(text: str, most_sentences: int = 1) -> bool:
    """Whether `text` is one sentence, or up to `most_sentences`, in which neighbouring words go together.

    This is not grammar: it finds repeated and missing words, articles that disagree with what follows, and marks that
    stand wrongly.
    """
    sentences = re.split(r"(?<=[.!?])\s+", text.strip())
    return len(sentences) <= most_sentences and all(map(_is_sentence, sentences))


def _is_sentence(sentence: str) -> bool:
    if not _SENTENCE.fullmatch(sentence) or _SPACING.search(sentence) or sentence.count("(") != sentence.count(")"):
        return False
    words = words_of(sentence)
    if len(words) < 3 or words[-1] in _ARTICLES | {"and", "or", "my", "their"}:
        return False
    return all(_go_together(*pair) for pair in pairwise(words)) and all(
        re.search(r"[aeiouy\d]", word) for word in words
    )


def _go_together(word: str, following: str) -> bool:
    if word == following and word not in _REPEATABLE:
        return False
    if word not in _ARTICLES:
        return True
    if following in _NEVER_AFTER_ARTICLE:
        return False
    vowel = following[0] in _VOWEL_AT_SIGHT
    return word == "the" or following.startswith(_SOUNDS_OTHERWISE) or following[0].isdigit() or vowel == (word == "an")


def words_of(text: str) -> list[str]:
    """Words and numbers, in small letters."""
    return re.findall(r"[a-z'’]+|\d+", text.lower())


def has_word(text: str, word: str) -> bool:
    """Whether a word of `text` is `word`, or is it with an ending."""
    return any(each.startswith(word.lower()) for each in words_of(text))


def _first_line(text: str) -> str:
    return text.strip().split("\n")[0].strip(' "')


# --- a sentence with given words -------------------------------------------------------------------------------------

_SCENES = (
    "dog park ball leash bench grass",
    "beach sun sand wave towel shell",
    "kitchen soup spoon bowl onion salt",
    "train ticket station platform suitcase window",
    "garden rose bee fence shovel rain",
    "school teacher chalk desk lesson bell",
    "forest path owl lantern tent night",
    "market baker bread basket coin morning",
)
_HARD = (
    "quorum glacier ledger sonnet isotope harpsichord",
    "alchemy turbine parliament lichen paradox scaffold",
    "monsoon theorem cathedral plankton ransom algorithm",
    "nebula tariff chisel mirage senate fungus",
)
_WORDS_SHOWN = (
    Case("Words: river, boat, oar, fish\nAnswer:\n", "We took the boat and one oar down the river to fish."),
    Case(
        "Words: cat, roof, ladder, moon\nAnswer:\n",
        "By the light of the moon I climbed a ladder to the cat on the roof.",
    ),
)


def _draw_words(groups: tuple[str, ...], together: bool) -> Callable[[np.random.Generator, int], Case]:
    """Four words of one of `groups` if they belong `together`, else of four."""

    def draw(rng: np.random.Generator, _number: int) -> Case:
        chosen = [groups[index].split() for index in rng.choice(len(groups), 1 if together else 4, replace=False)]
        words = (
            rng.choice(chosen[0], 4, replace=False).tolist() if together else [str(rng.choice(each)) for each in chosen]
        )
        listed = ", ".join(f"the {word}" for word in words[:3])
        return Case(f"Words: {', '.join(words)}\nAnswer:\n", f"My story tells of {listed} and the {words[3]}.")

    return draw


def _show_written(generate: Generator) -> Generator:
    """As `generate`, but with examples that a person wrote."""

    def choose(rng: np.random.Generator, count: int, *, held_out: bool = False) -> list[Case]:
        return generate(rng, count, held_out=True) if held_out else list(_WORDS_SHOWN[:count])

    return choose


def solves_words(prompt: str, text: str) -> bool:
    """Whether the first line of `text` is a sentence with every word of `prompt`, as it is or with an ending."""
    words = prompt.split("Words: ")[-1].split("\n")[0].split(", ")
    line = _first_line(text)
    return is_well_formed(line) and all(has_word(line, word) for word in words)


# --- the same in other words -----------------------------------------------------------------------------------------

_PEOPLE = "Anna Ben Clara David Emma Frank Grace Henry Irene Jack Karen Leo Maria Nora Oscar Paul".split()
_DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
_NUMBERS = "two three four five six seven eight nine".split()
_DIGITS = {word: str(digit) for digit, word in enumerate(_NUMBERS, 2)}
_DEEDS = (
    ("bought", "bought", "apples lamps chairs books candles", "market shop"),
    ("painted", "painted", "doors fences pictures boats", "school harbour"),
    ("found", "found", "coins keys letters stamps", "station library"),
    ("sold", "sold", "tickets cakes baskets plants", "theatre bakery"),
)


def _draw_sentence(rng: np.random.Generator, _number: int) -> Case:
    who, day, number = (str(rng.choice(each)) for each in (_PEOPLE, _DAYS, _NUMBERS))
    active, passive, things, places = _DEEDS[int(rng.integers(len(_DEEDS)))]
    thing, place = str(rng.choice(things.split())), str(rng.choice(places.split()))
    return Case(
        f"Sentence: {who} {active} {number} {thing} at the {place} on {day}.\nAnswer:\n",
        f"On {day}, {number} {thing} were {passive} by {who} at the {place}.",
    )


def solves_paraphrase(prompt: str, text: str) -> bool:
    """Whether the first line of `text` is a sentence with the person, number, things, place and day of `prompt`, in
    which at most half of its runs of three words are left, and which is at most twice as long."""
    source = prompt.split("Sentence: ")[-1].split("\n")[0]
    line = _first_line(text)
    who, _, number, thing, _, _, place, _, day = words_of(source)
    before, after = ({*zip(words, words[1:], words[2:], strict=False)} for words in map(words_of, (source, line)))
    return (
        is_well_formed(line)
        and all(has_word(line, fact) for fact in (who, thing, place, day))
        and not {number, _DIGITS[number]}.isdisjoint(words_of(line))
        and 2 * len(before & after) <= len(before)
        and len(words_of(line)) <= 2 * len(words_of(source))
    )


# --- the same in fewer words -----------------------------------------------------------------------------------------

_PLANS = (
    ("go to the cinema", "cinema", "The new film is said to be very good."),
    ("meet for dinner", "dinner", "There is a small place near the bridge that I like."),
    ("play tennis", "tennis", "I have not held a racket for weeks."),
    ("visit the museum", "museum", "They have opened the rooms upstairs."),
    ("repair the bicycle", "bicycle", "The chain falls off all the time."),
    ("bake a cake", "cake", "My sister has left me her best recipe."),
)


def _draw_conversation(rng: np.random.Generator, _number: int) -> Case:
    one, other = rng.choice(_PEOPLE, 2, replace=False).tolist()
    first, agreed = rng.choice(_DAYS, 2, replace=False).tolist()
    plan, _, remark = _PLANS[int(rng.integers(len(_PLANS)))]
    return Case(
        f"Conversation:\n{one}: Shall we {plan} on {first}?\n"
        f"{other}: I would love to, but I have to work on {first} and I come home late.\n"
        f"{one}: What a pity. Then what about {agreed}?\n"
        f"{other}: {agreed} is fine with me. {remark}\n"
        f"{one}: See you on {agreed} then!\nAnswer:\n",
        f"{one} and {other} are going to {plan} on {agreed}.",
    )


def solves_summary(prompt: str, text: str) -> bool:
    """Whether the first line of `text` is one or two sentences of at most half the words, with both people, what they
    plan, and the day they agree on."""
    conversation = prompt.split("Conversation:\n")[-1].split("\nAnswer:")[0]
    line, turns = _first_line(text), conversation.split("\n")
    topic = next(topic for plan, topic, _ in _PLANS if plan in turns[0])
    agreed = words_of(turns[-1])[-2]
    facts = (turns[0].split(":")[0], turns[1].split(":")[0], topic, agreed)
    return (
        is_well_formed(line, most_sentences=2)
        and all(has_word(line, fact) for fact in facts)
        and 2 * len(words_of(line)) <= len(words_of(conversation))
    )


def _make_task(name: str, instruction: str, seed: int, generate: Generator, solves: Callable[[str, str], bool]) -> Task:
    return Task(
        name=f"text/{name}",
        instruction=f"{instruction} Write nothing else.",
        new_tokens=64,
        seed=seed,
        generate=generate,
        solves=solves,
        shots=1,
    )


def _with_words(name: str, seed: int, groups: tuple[str, ...], together: bool) -> Task:
    generate = _show_written(draw_one_by_one(_draw_words(groups, together)))
    return _make_task(name, "Write one sentence in which all of the words occur.", seed, generate, solves_words)


SENTENCES = (
    _make_task(
        "paraphrase",
        "Say the same in other words, in one sentence. Leave nothing out.",
        130,
        draw_one_by_one(_draw_sentence),
        solves_paraphrase,
    ),
    _make_task(
        "summary",
        "Say in one sentence who of the two does what, and on which day.",
        131,
        draw_one_by_one(_draw_conversation),
        solves_summary,
    ),
    _with_words("words-easy", 132, _SCENES, together=True),
    _with_words("words-medium", 133, _SCENES, together=False),
    _with_words("words-hard", 134, _HARD, together=False),
)
