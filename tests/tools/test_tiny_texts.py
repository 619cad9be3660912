"""The shipped texts of the tiny Dream's world: what its generators draw, and patterns that agree with its grammar."""

from __future__ import annotations

import json
import re
from itertools import product

import numpy as np
import pytest

from tools.tiny import questions, sentences
from tools.tiny.grammar import is_grammatical
from tools.tiny.texts import (
    HELD_OUT_CASES,
    HELD_OUT_SEED,
    PACKAGE,
    TRAINING_CASES,
    TRAINING_SEED,
    draw_texts,
    pattern_of_fills,
)

DEMO = json.loads((PACKAGE / "cli" / "demo_cases.json").read_text("utf-8"))


@pytest.mark.parametrize(
    ("name", "seed", "cases", "held_out"),
    [
        ("tiny_held_out.jsonl", HELD_OUT_SEED, HELD_OUT_CASES, True),
        ("tiny_training.jsonl", TRAINING_SEED, TRAINING_CASES, False),
    ],
)
def test_files_hold_what_the_generators_draw(name: str, seed: int, cases: int, held_out: bool) -> None:
    lines = (PACKAGE / "quality" / "texts" / name).read_text("utf-8").splitlines()
    assert list(map(json.loads, lines)) == list(draw_texts(seed, cases, held_out=held_out))


def test_a_pattern_matches_exactly_what_the_grammar_accepts() -> None:
    words = [
        "cat",
        "cats",
        "owl",
        "Ben",
        "Mia",
        "king",
        "sleeps",
        "sleep",
        "saw",
        "is",
        "old",
        "a",
        "an",
        "the",
        "every",
        "now",
    ]
    pattern = re.compile(pattern_of_fills("Yesterday the", 2, " near the tree."))
    for first, second in product(words, repeat=2):
        fill = f" {first} {second}"
        assert bool(pattern.fullmatch(fill)) == is_grammatical(f"Yesterday the{fill} near the tree."), fill


@pytest.mark.parametrize("case", DEMO["infill"], ids=lambda case: case["hidden"])
def test_patterns_of_hidden_words_accept_them_and_agree_with_the_grammar(case: dict[str, str]) -> None:
    assert re.fullmatch(case["right"], case["prefix"] + case["hidden"] + case["suffix"])
    rng = np.random.default_rng(0)
    texts = [text.text for text in sentences.generate(rng, 200)]
    for text in texts:
        words = text.rstrip(".").split(" ")
        fill = " ".join(words[:3]).lower() if len(words) > 3 else ""
        whole = f"{case['prefix']} {fill}{case['suffix']}"
        assert bool(re.fullmatch(case["right"], whole)) == is_grammatical(whole), whole


@pytest.mark.parametrize("case", DEMO["ending"], ids=lambda case: case["ending"])
def test_patterns_of_sentences_with_an_ending_accept_the_original(case: dict[str, str]) -> None:
    assert is_grammatical(case["first"] + case["middle"] + case["ending"])
    assert re.fullmatch(case["right"], case["middle"] + case["ending"])
    assert not re.fullmatch(case["right"], case["middle"])


def test_conversations_have_the_one_right_answer() -> None:
    for case in DEMO["chat"]:
        asked = [turn["content"] for turn in case["messages"] if turn["role"] == "user"]
        prompt = questions.chat_prompt(asked, [case["messages"][1]["content"]])
        assert questions.solves(prompt, case["answer"])
