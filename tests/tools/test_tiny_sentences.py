"""The sentence world: the grammar against examples written by hand, the generator against the grammar."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tools.tiny import sentences
from tools.tiny.lexicon import ANIMALS, PEOPLE

GRAMMATICAL = [
    "Ben sleeps.",
    "The cat near the trees sleeps.",
    "The cats near the tree sleep.",
    "Yesterday an old owl saw the apples.",
    "Tomorrow these girls will wash themselves.",
    "Anna finds her ball now.",
    "The boys carried their red umbrellas.",
    "The girl who likes the owls sings behind this house.",
    "The cat that the boys watch is hungry.",
    "Ben and Mia are happy.",
    "When the cow sleeps, it is quiet.",
    "When the women were angry, they found their books.",
    "A dog and a goat danced because they were young.",
    "There are two eggs under those hills.",
    "There will be a queen in the garden.",
    "Anna found a small egg. She carried it. The egg was white.",
    "Three kings like some bees. They follow them near a river.",
]

UNGRAMMATICAL = [
    "",
    "Sleeps Ben.",
    "Ben sleeps",
    "ben sleeps.",
    "Ben sleeps .",
    "Ben  sleeps.",
    "The cat near the trees sleep.",  # agreement across a distance
    "The cats near the tree sleeps.",
    "An cat sleeps in the house.",
    "A owl sleeps in the house.",
    "A ugly cat sleeps in the house.",
    "These girl sings in the garden.",
    "Every girls sing in the garden.",
    "Yesterday the cat sleeps.",
    "The cat will sleep now.",
    "Yesterday the cat slept yesterday.",
    "The girls washed herself.",
    "Ben helps herself.",
    "Anna finds his ball now.",
    "The girl who like the owls sings.",
    "The cat who sings is happy.",
    "The man that sings is happy.",
    "The cat that the boys watches is hungry.",
    "Ben and Mia is happy.",
    "When the cow sleeps, she is quiet.",
    "When the cow sleeps it is quiet.",
    "When the cow sleeps, it was quiet.",
    "The ball sleeps in the house.",
    "Ben is red.",
    "The apple near the river is quiet now.",
    "There is two eggs under those hills.",
    "There are the eggs under those hills.",
    "Anna found a small egg. He carried it.",
    "Anna found a small egg. She carried them.",
    "Anna found a small egg. She carries it.",
    "Anna found a small egg. She carried it. The ball was white.",
    "Anna found a small egg. She carried it. The egg were white.",
    "Ben sleeps. Ben sleeps.",
    "The Cat sleeps in the house.",
    "The cat sleeps in the spaceship.",
]


@pytest.mark.parametrize("text", GRAMMATICAL)
def test_grammatical_text_is_accepted(text: str) -> None:
    assert sentences.solves(text)


@pytest.mark.parametrize("text", UNGRAMMATICAL)
def test_ungrammatical_text_is_rejected(text: str) -> None:
    assert not sentences.solves(text)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), held_out=st.booleans())
def test_every_generated_text_is_grammatical(seed: int, held_out: bool) -> None:
    for case in sentences.generate(np.random.default_rng(seed), 40, held_out=held_out):
        assert sentences.solves(case.text), case.text
        assert 6 <= len(case.text.split()) <= 20


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_repeating_a_word_is_noticed(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for case in sentences.generate(rng, 10):
        words = case.text.split()
        place = int(rng.integers(1, len(words)))
        assert not sentences.solves(" ".join([*words[:place], words[place], *words[place:]]))


@settings(max_examples=50, deadline=None)
@given(text=st.text(alphabet="abAB .,\n", max_size=40))
def test_any_text_at_all_can_be_checked(text: str) -> None:
    assert not sentences.solves(text)


def test_the_same_seed_gives_the_same_texts() -> None:
    first, again, other = (sentences.generate(np.random.default_rng(seed), 30) for seed in (7, 7, 8))
    assert first == again != other


def test_a_sentence_about_a_noun_has_it_as_its_subject() -> None:
    rng = np.random.default_rng(0)
    for noun in PEOPLE + ANIMALS:
        text = sentences.about(rng, noun)
        assert sentences.solves(text)
        assert text.split()[:2] in (["The", noun.singular], ["The", noun.plural])
