"""Repetitions that are counted: against plain loops, byte by byte, and at the sizes that people ask for."""

from __future__ import annotations

import re
import time
import tracemalloc
from functools import reduce
from itertools import accumulate
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dream_edge
from dream_edge_runtime.constraint.automaton import Automaton
from dream_edge_runtime.constraint.errors import ConstraintTooLarge
from dream_edge_runtime.constraint.regex import read_regex
from dream_edge_runtime.constraint.schema import read_schema
from dream_edge_runtime.constraint.token_automaton import FAR, MASK, TokenAutomaton
from dream_edge_runtime.constraint.vocabulary import Vocabulary
from support.schemas import check

Tree = str | tuple[Any, ...]
COUNTS = [(0, 20), (3, 40), (1, 17), (16, 16), (0, 30), (18, 99), (0, 1)]
TREES: st.SearchStrategy[Tree] = st.recursive(
    st.sampled_from(["a", "b", "[ab]", "é", "[a-é]", "."]),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda each: ("row", *each)),
        st.lists(inner, min_size=1, max_size=3).map(lambda each: ("one", *each)),
        st.tuples(st.sampled_from(COUNTS), inner).map(lambda pair: ("times", *pair[0], pair[1])),
    ),
    max_leaves=5,
)
TEXTS = st.lists(
    st.tuples(st.sampled_from(["a", "b", "ab", "c", "é", "x"]), st.sampled_from([1, 2, 15, 16, 17, 20, 21, 40, 41])),
    max_size=3,
).map(lambda runs: "".join(text * times for text, times in runs))


def write(tree: Tree) -> str:
    if isinstance(tree, str):
        return tree
    if tree[0] == "times":
        return f"(?:{write(tree[3])}){{{tree[1]},{tree[2]}}}"
    return f"(?:{('' if tree[0] == 'row' else '|').join(map(write, tree[1:]))})"


def ends(tree: Tree, text: str, starts: frozenset[int]) -> frozenset[int]:
    """Where what matches may end that begins at one of `starts`: as `re` would find, but never in exponential time."""
    if isinstance(tree, str):
        return frozenset(at + 1 for at in starts if re.fullmatch(tree, text[at : at + 1]))
    if tree[0] == "row":
        return reduce(lambda reached, part: ends(part, text, reached), tree[1:], starts)
    if tree[0] == "one":
        return frozenset().union(*(ends(option, text, starts) for option in tree[1:]))
    _, least, most, part = tree
    rounds = [*accumulate(range(most), lambda reached, _: ends(part, text, reached), initial=starts)]
    return frozenset().union(*rounds[least:])


@given(TREES, st.lists(TEXTS, min_size=1, max_size=10))
@settings(max_examples=300)
def test_long_texts_match_as_they_should(tree: Tree, texts: list[str]) -> None:
    try:
        read = Automaton.of(read_regex(write(tree)))
    except ConstraintTooLarge:
        return
    for text in texts:
        assert read.matches(text) == (len(text) in ends(tree, text, frozenset({0}))), (write(tree), text)


def to_20(part: Tree, least: int = 0) -> Tree:
    return ("times", least, 20, part)


@pytest.mark.parametrize(
    "tree",
    [
        to_20("a"),
        to_20("a", 3),
        to_20(("one", "a", ("row", "a", "b"))),
        to_20(("one", ("row", "a", "b"), "b")),
        ("row", to_20("a"), to_20("a")),
        ("row", to_20("a"), to_20("[ab]")),
        ("row", to_20("."), "a"),
        ("row", "x", to_20("a"), "x", to_20("a")),
        ("row", ("one", ("row", "x", to_20("a")), ("row", "y", to_20("a"))), "b"),
        ("row", ("one", ("row", "x", to_20("a", 2)), ("times", 0, 30, "a")), "b"),
        ("row", ("one", to_20("a"), ("times", 0, 30, "a")), "b"),
        ("times", 0, 3, to_20("a")),
        ("times", 0, 3, ("row", to_20("[ab]"), "x")),
        ("times", 0, 99, ("row", to_20("a"), "b")),
        ("times", 0, 4, ("one", to_20("a"), "b")),
        ("times", 2, 2, ("row", to_20("é"), ("times", 0, 1, "a"))),
    ],
    ids=write,
)
def test_every_number_of_repetitions_matches_as_it_should(tree: Tree) -> None:
    read = Automaton.of(read_regex(write(tree)))
    for before in ("", "x", "y", "b", "é"):
        for after in ("", "b", "ba", "xa", "xaaa"):
            for times in (0, 1, 2, 3, 16, *range(18, 23), 29, 30, 31, 39, 40, 41, 42):
                text = before + "a" * times + after
                assert read.matches(text) == (len(text) in ends(tree, text, frozenset({0}))), text


@pytest.mark.parametrize("length", [100, 1000, 65_536])
def test_a_thousand_characters_take_as_many_states_as_a_hundred(length: int) -> None:
    read = Automaton.of(read_schema({"type": "string", "maxLength": length}))
    assert len(read.table) == len(Automaton.of(read_schema({"type": "string", "maxLength": 50})).table)
    for text in ("", "é" * length, '\\"' * length, "😀" * (length - 1)):
        assert read.matches(f'"{text}"')
    for text in ("é" * (length + 1), "a" * length + r"\n", '"'):
        assert not read.matches(f'"{text}"')


STATES = r'\{"a": "[^"\\]{0,30}", "bcd": [0-9]{1,30}, "e": "(x|[^"\\]{3})*"\}|"é*"|(éa|b){0,20}c'


def test_tokens_lead_where_their_bytes_do() -> None:
    """From some states, at some counts: every token, one after the other, and any token at all."""
    tokenizer = dream_edge.load("tiny").tokenizer
    spelled = tokenizer.token_bytes() | {5_000: b"aa", 5_001: b"aa", 5_002: b""}
    read = Automaton.of(read_regex(STATES))
    tokens = TokenAutomaton(read, Vocabulary(spelled))
    assert len(tokens.kinds) == 5_004
    for state in range(1, len(read.table), 5):
        for count in {0, 1, int(read.most[state])}:
            if count > read.most[state]:
                continue
            at = np.full(tokens.states, FAR)
            at[state] = count
            reached = np.full(tokens.states, FAR)
            if read.accepting[state]:
                reached[tokens.end] = 0
            for token, text in spelled.items():
                after, counted = read.step(state, count, text)
                expected = np.full(tokens.states, FAR)
                if after and text:
                    expected[after] = counted
                    reached[after] = min(reached[after], counted)
                assert (lead(tokens, at, int(tokens.kinds[token])) == expected).all()
            assert (lead(tokens, at, MASK) == reached).all()


def lead(tokens: TokenAutomaton, least: Any, kind: int) -> Any:
    return np.frombuffer(tokens.after(least.tobytes(), kind), np.int64)


def test_what_leads_back_is_what_leads_forth() -> None:
    """A count is within the bound before a token just where the one after it is."""
    tokenizer = dream_edge.load("tiny").tokenizer
    read = Automaton.of(read_regex(STATES))
    tokens = TokenAutomaton(read, Vocabulary(tokenizer.token_bytes()))
    *_, most = accumulate(range(9), lambda bound, _: tokens.before(bound, MASK), initial=tokens.finish(padded=True))
    bound = np.frombuffer(most, np.int64)
    kinds = [MASK, *range(tokens.ending + 1)]
    for kind in kinds:
        before = np.frombuffer(tokens.before(most, kind), np.int64)
        for state in range(1, len(read.table), 5):
            for count in range(0, int(read.most[state]) + 1, 7):
                at = np.full(tokens.states, FAR)
                at[state] = count
                assert (count <= before[state]) == bool((lead(tokens, at, kind) <= bound).any())


@pytest.mark.parametrize("room", [24, 40, 64])
@pytest.mark.parametrize(
    "how", [{}, {"temperature": 2.0}, {"preset": "exact"}, {"preset": "turbo", "temperature": 1.0}]
)
def test_texts_keep_their_length(room: int, how: dict[str, Any]) -> None:
    """Tiny would go on for long: a string that is open takes what room there is."""
    schema = {
        "type": "object",
        "properties": {
            "a": {"type": "string", "maxLength": 20},
            "b": {"type": "string", "minLength": 2, "maxLength": 30},
        },
        "required": ["a", "b"],
    }
    for seed in range(3):
        check(
            dream_edge.load("tiny").generate("Who?", json_schema=schema, max_new_tokens=room, seed=seed, **how).text,
            schema,
        )


HOSTILE = {
    "counts that are ambiguous": "|".join(f"[a-z]{{0,{n}}}[a-y]{{0,{n}}}" for n in range(100, 300)),
    "counts in counts": "((((.{0,60000}x){0,60000}y){0,60000}z){0,60000})",
    "one that is counted before many that are not": "(.{0,60000}\n){0,400}.{0,900}x.{0,900}y",
    "a beginning that is copied": "[^a]{4000,60000}",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_counts_are_refused_soon(name: str) -> None:
    started = time.process_time()
    with pytest.raises(ConstraintTooLarge):
        Automaton.of(read_regex(HOSTILE[name]))
    assert time.process_time() - started < 2
    tracemalloc.start()
    try:
        with pytest.raises(ConstraintTooLarge):
            Automaton.of(read_regex(HOSTILE[name]))
        assert tracemalloc.get_traced_memory()[1] < 300e6
    finally:
        tracemalloc.stop()
