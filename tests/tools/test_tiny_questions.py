"""Conversations: replies worked out by hand, the generator against the listener that understands questions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tools.tiny import questions
from tools.tiny.replies import reply


@pytest.mark.parametrize(
    ("turns", "answer"),
    [
        (["What sound does a dog make?"], "A dog barks."),
        (["What does the owl say?"], "An owl hoots."),
        (["What is a young cow called?"], "A young cow is called a calf."),
        (["Where do bees live?"], "A bee lives in a hive."),
        (["What color is the snow?"], "The snow is white."),
        (["What is the opposite of hot?"], "The opposite of hot is cold."),
        (["Which day comes before Monday?"], "Sunday comes before Monday."),
        (["Which month comes after December?"], "January comes after December."),
        (["What is 12 + 9?"], "12 plus 9 is 21."),
        (["How much is 12 minus 9?"], "12 minus 9 is 3."),
        (["Hello!"], "Hello! How can I help you?"),
        (["What does a dog say?", "And the cat?"], "A cat meows."),
        (["What does a dog say?", "And where does it live?"], "A dog lives in a kennel."),
        (["What does a dog say?", "And where does it live?", "What about a pig?"], "A pig lives in a sty."),
        (["What color is the sky?", "And the frog?"], "The frog is green."),
        (["What is the opposite of big?", "And of young?"], "The opposite of young is old."),
        (["Which day comes after Friday?", "And before Friday?"], "Thursday comes before Friday."),
        (["What is 1 + 1?", "And 2 plus 2?"], "2 plus 2 is 4."),
    ],
)
def test_replies_worked_out_by_hand(turns: list[str], answer: str) -> None:
    assert reply(turns) == answer
    assert questions.solves(questions.chat_prompt(turns, ["…"] * (len(turns) - 1)), answer)


@pytest.mark.parametrize("turns", [["And the cat?"], ["What color is the wind?"], ["Why?"], ["And of hot?"], []])
def test_what_the_world_does_not_know_has_no_reply(turns: list[str]) -> None:
    assert reply(turns) is None


def test_only_the_one_right_answer_is_accepted() -> None:
    prompt = questions.chat_prompt(["What does a dog say?"], [])
    assert questions.solves(prompt, "A dog barks.<|im_end|>")
    assert not questions.solves(prompt, "A dog meows.")
    assert not questions.solves(prompt, "A dog barks")
    assert not questions.solves(prompt, "A dog barks. A dog barks.")
    assert not questions.solves(prompt, "")


def test_the_prompt_is_dreams_chat_template() -> None:
    assert questions.chat_prompt(["Hi!", "How are you?"], ["Hello!"]) == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\nHi!<|im_end|>\n<|im_start|>assistant\nHello!<|im_end|>\n"
        "<|im_start|>user\nHow are you?<|im_end|>\n<|im_start|>assistant\n"
    )


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), held_out=st.booleans(), turns=st.sampled_from([None, 1, 2, 3]))
def test_every_generated_answer_is_the_right_reply(seed: int, held_out: bool, turns: int | None) -> None:
    for case in questions.generate(np.random.default_rng(seed), 20, held_out=held_out, turns=turns):
        assert questions.solves(case.prompt, case.answer), case
        assert len(questions.user_turns(case.prompt)) in ((1, 2, 3) if turns is None else (turns,))


def test_the_same_seed_gives_the_same_conversations() -> None:
    first, again, other = (questions.generate(np.random.default_rng(seed), 30) for seed in (7, 7, 8))
    assert first == again != other


def test_held_out_questions_are_never_drawn_for_training() -> None:
    rng = np.random.default_rng(3)
    held_out = {case.prompt for case in questions.generate(rng, 200, held_out=True, turns=1)}
    trained = {case.prompt for case in questions.generate(rng, 3000, turns=1)}
    assert not held_out & trained
