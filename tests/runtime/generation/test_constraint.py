"""What a constraint leaves possible: against all completions of a short canvas, one by one; and whole generations."""

from __future__ import annotations

import itertools
import re
from functools import cache
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dream_edge
from dream_edge_runtime.constraint import pattern
from dream_edge_runtime.constraint.automaton import Automaton
from dream_edge_runtime.constraint.errors import ConstraintTooLarge, TooLittleRoom
from dream_edge_runtime.constraint.regex import read_regex
from dream_edge_runtime.constraint.token_automaton import TokenAutomaton
from dream_edge_runtime.constraint.vocabulary import Vocabulary
from dream_edge_runtime.errors import InvalidOption
from dream_edge_runtime.generation.constraint import ConstrainedHole, Constraint, FittingRows
from dream_edge_runtime.generation.options import PRESETS
from dream_edge_runtime.generation.sampling import Filters, Greedy, Judged, Multinomial, Sampler
from dream_edge_runtime.inference.network import Rows
from dream_edge_runtime.model import DreamModel
from dream_edge_runtime.text.template import Hole
from support.networks import random_network

TOKENS = {0: b"a", 1: b"b", 2: b"ab", 3: b"ba", 4: b"aab", 6: b"\xc3", 7: b"\xa9", 8: b""}
END, EVERY = 5, (*range(9), 9)
REGEXES = ["a*b", "(ab|ba)+", "a{2,3}", "b?", "(a|b){4}", "(aab)*a?", "[ab]*é", "a|bbbb", "(ab){3}b*"]
REGEXES += [
    "(a|b){0,5}",
    "a{1,4}b+",
    "(é|b){0,3}",
    "(a{0,2}b{0,3}){1,2}",
    "[ab]{2,6}",
    "(ab|b){0,3}a{0,2}",
    "b(é|a){0,2}",
]


@cache
def automaton(regex: str) -> TokenAutomaton:
    """Which counts from the second repetition on, so that a few tokens come to the end of it."""
    with patch.object(pattern, "LEAST_COUNTED", 2):
        return TokenAutomaton(Automaton.of(read_regex(regex)), Vocabulary(TOKENS))


def matches(regex: str, tokens: tuple[int, ...], ends: frozenset[int]) -> bool:
    """Whether `tokens` are texts that match, and then nothing but ends."""
    text, ended = b"", False
    for token in tokens:
        if token in ends:
            ended = True
        elif ended or not TOKENS.get(token):
            return False
        else:
            text += TOKENS[token]
    try:
        return re.fullmatch(regex, text.decode()) is not None
    except UnicodeDecodeError:
        return False


def completions(regex: str, canvas: list[int | None], ends: frozenset[int]) -> list[tuple[int, ...]]:
    """Every way to fill the masks (None) of `canvas`."""
    choices = [range(8) if token is None else (token,) for token in canvas]
    return [tokens for tokens in itertools.product(*choices) if matches(regex, tokens, ends)]


def read(regex: str, canvas: list[int | None], ends: frozenset[int], most: int | None = None) -> ConstrainedHole:
    hole = ConstrainedHole(automaton(regex), ends, start=0, most=most)
    take_in(hole, canvas)
    return hole


def fitting(hole: ConstrainedHole, at: int) -> set[int]:
    return {token for token, fits in zip(EVERY, hole.fits(at, np.array(EVERY)), strict=True) if fits}


def take_in(hole: ConstrainedHole, canvas: list[int | None]) -> None:
    hole.read(np.array([99 if token is None else token for token in canvas]), np.array([t is None for t in canvas]))


CANVASES = st.lists(st.sampled_from([None, None, None, 0, 1, 2, 3, 5, 6]), min_size=1, max_size=4)


@given(st.sampled_from(REGEXES), CANVASES, st.booleans())
@settings(max_examples=300)
def test_a_token_fits_where_some_completion_has_it(regex: str, canvas: list[int | None], padded: bool) -> None:
    ends = frozenset({END}) if padded else frozenset()
    possible = completions(regex, canvas, ends)
    hole = read(regex, canvas, ends)
    if not possible:
        with pytest.raises(TooLittleRoom):
            hole.check()
        return
    hole.check()
    for at, token in enumerate(canvas):
        if token is None:
            expected = {tokens[at] for tokens in possible}
            assert fitting(hole, at) == expected


@given(st.sampled_from(REGEXES), CANVASES, st.data())
@settings(max_examples=300)
def test_tokens_fit_together_where_some_completion_has_all_of_them(
    regex: str, canvas: list[int | None], data: st.DataObject
) -> None:
    possible = completions(regex, canvas, frozenset({END}))
    masks = [at for at, token in enumerate(canvas) if token is None]
    if not possible or not masks:
        return
    hole = read(regex, canvas, frozenset({END}))
    places = data.draw(st.lists(st.sampled_from(masks), min_size=1, unique=True))
    tokens = {at: data.draw(st.integers(0, 8)) for at in places}
    expected = any(all(each[at] == token for at, token in tokens.items()) for each in possible)
    assert hole.fit_together(tokens) == expected


@given(st.sampled_from(REGEXES), CANVASES, st.data())
@settings(max_examples=200)
def test_what_is_read_step_by_step_is_what_is_read_at_once(
    regex: str, canvas: list[int | None], data: st.DataObject
) -> None:
    """Settled one by one, masked again, grown: the sets are those of a hole that has seen nothing before."""
    ends = frozenset({END})
    hole = read(regex, canvas, ends)
    for _ in range(4):
        at = data.draw(st.integers(0, len(canvas) - 1))
        canvas = canvas.copy()
        canvas[at] = data.draw(st.sampled_from([None, 0, 1, 5]))
        canvas += [None] * data.draw(st.integers(0, 1))
        take_in(hole, canvas)
        fresh = read(regex, canvas, ends)
        for place in range(len(canvas)):
            assert fitting(hole, place) == fitting(fresh, place)


@given(st.sampled_from(REGEXES), CANVASES, st.integers(0, 2))
@settings(max_examples=200)
def test_a_sequence_that_may_grow_fits_what_it_would_fit_grown(regex: str, canvas: list[int | None], more: int) -> None:
    ends = frozenset({END})
    possible = completions(regex, [*canvas, *[None] * more], ends)
    hole = read(regex, canvas, ends, most=len(canvas) + more)
    for at, token in enumerate(canvas):
        if token is None and possible:
            assert fitting(hole, at) == {tokens[at] for tokens in possible}
    if not possible:
        with pytest.raises(TooLittleRoom):
            hole.check()


@pytest.mark.parametrize("regex", REGEXES)
def test_shortest_match_is_that_of_a_search(regex: str) -> None:
    sizes = (size for size in range(9) if completions_of(regex, size))
    assert automaton(regex).shortest == next(sizes)


def completions_of(regex: str, size: int) -> bool:
    """Whether any text of `size` tokens matches; é is looked for by itself, to keep them few."""
    tokens = (0, 1, 6, 7) if "é" in regex else range(5)
    return any(matches(regex, each, frozenset()) for each in itertools.product(tokens, repeat=size))


@pytest.mark.parametrize(
    "sampler",
    [
        Greedy(),
        Multinomial(temperature=1.0),
        Multinomial(temperature=0.7, filters=Filters(top_k=3)),
        Judged(draw_temperature=1.0),
        Judged(draw_temperature=1.6),
        Judged(draw_temperature=0.5, filters=Filters(top_p=0.9)),
    ],
    ids=str,
)
@pytest.mark.parametrize("best", [2, 4, 10])
def test_tokens_are_drawn_from_the_distribution_over_those_that_fit(sampler: Sampler, best: int) -> None:
    """4,000 draws, against the distribution over the whole vocabulary with the others left out. With a filter, what it
    keeps depends on what was left out before, so only whether they fit is asked."""
    logits = np.array([[2.0, 0.5, 1.0, -1.0, 3.0, 2.5, 0.0, 1.5, 4.0, 3.5]], dtype=np.float32)
    hole = read("(a|b){4}", [None, None], frozenset({END}))  # "aab" then "a" or "b", "ab" then two, …
    allowed = hole.fits(0, np.arange(10))
    assert 1 < allowed.sum() < 9
    count = 4000
    rows = Rows.from_logits(np.repeat(logits, count, axis=0), sampler.temperature, best)
    draws = np.random.default_rng(0)
    constraint = Constraint([hole], tiny().tokenizer)
    left = FittingRows(rows, constraint, np.zeros(count, np.int64), sampler, draws)
    proposal = left.redraw(sampler.propose(rows, draws), np.arange(count))
    assert allowed[proposal.tokens].all()
    drawn = np.bincount(proposal.tokens, minlength=10) / count
    if isinstance(sampler, Greedy):
        assert set(proposal.tokens.tolist()) == {int(np.where(allowed, logits[0], -9).argmax())}
        return
    assert isinstance(sampler, Multinomial | Judged)
    if not sampler.filters.active:
        temperature = sampler.draw_temperature if isinstance(sampler, Judged) else sampler.temperature
        weights = np.where(allowed, np.exp(logits[0].astype(np.float64) / temperature), 0)
        assert np.abs(drawn - weights / weights.sum()).max() < 0.03


@cache
def tiny() -> DreamModel:
    return dream_edge.load("tiny")


@cache
def noise(seed: int) -> DreamModel:
    """A network that knows nothing, with tiny's vocabulary: it wants tokens that never match."""
    return DreamModel(random_network(tiny().config, seed=seed), tiny().tokenizer)


PIECES = st.recursive(
    st.sampled_from(["a", "b", "[a-f]", "[^x\n]", ".", r"\d", "é", "The", " cat", r"\{", '"', "[0-9]{2}"]),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=4).map("".join),
        st.lists(inner, min_size=1, max_size=3).map(lambda each: f"(?:{'|'.join(each)})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,4}", "{3,}"])).map(
            lambda pair: f"(?:{pair[0]}){pair[1]}"
        ),
    ),
    max_leaves=6,
)
HOW: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"temperature": st.sampled_from([0.0, 0.3, 1.0, 2.0]), "seed": st.integers(0, 9)},
    optional={
        "preset": st.sampled_from([name for name in PRESETS if name != "exact"]),
        "top_p": st.just(0.8),
        "top_k": st.just(5),
        "eos_penalty": st.sampled_from([0.0, 2.0]),
        "grow_from": st.just(4),
    },
)
SCHEDULED: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {
        "temperature": st.sampled_from([0.0, 1.0]),
        "steps": st.integers(1, 12),
        "algorithm": st.sampled_from(["origin", "entropy", "maskgit_plus", "topk_margin"]),
        "seed": st.integers(0, 9),
    },
    optional={"algorithm_temperature": st.just(0.5), "block_length": st.just(5)},
)


@given(PIECES, st.one_of(HOW, SCHEDULED), st.integers(1, 24), st.sampled_from(["tiny", "noise"]), st.booleans())
@settings(max_examples=300)
def test_every_text_matches(regex: str, how: dict[str, Any], room: int, which: str, ending: bool) -> None:
    model = tiny() if which == "tiny" else noise(0)
    options = {**how, "max_new_tokens": room}
    if ending:
        options.pop("grow_from", None)
    try:
        result = model.generate("Who?", regex=regex, end_with="cat" if ending else "", **options)
    except (TooLittleRoom, ConstraintTooLarge):
        return
    except InvalidOption as error:
        if error.name == "end_with" and room < 3:
            return
        raise
    assert re.fullmatch(regex, result.text), result.text


@given(PIECES, st.lists(st.text("xyé", min_size=1, max_size=3), min_size=1, max_size=3), HOW, st.integers(1, 12))
@settings(max_examples=100)
def test_every_hole_matches_its_own(regex: str, choices: list[str], how: dict[str, Any], size: int) -> None:
    how.pop("grow_from", None)
    template: list[str | int | Hole] = [
        "The ",
        Hole(size, regex=regex),
        " has ",
        2,
        " and ",
        Hole(size, choices=choices),
        ".",
    ]
    try:
        result = tiny().fill(template, **how)
    except (TooLittleRoom, ConstraintTooLarge):
        return
    assert re.fullmatch(regex, result.holes[0])
    assert result.holes[2] in choices


@given(PIECES, st.sampled_from([{}, {"temperature": 1.0}, {"preset": "turbo"}, {"exact": True}]), st.integers(1, 70))
@settings(max_examples=60)
def test_every_text_of_a_block_causal_model_matches(regex: str, how: dict[str, Any], room: int) -> None:
    try:
        result = dream_edge.load("tiny-blocks").generate("Who?", regex=regex, max_new_tokens=room, seed=1, **how)
    except (TooLittleRoom, ConstraintTooLarge):
        return
    assert re.fullmatch(regex, result.text)


def test_every_text_of_a_batch_matches() -> None:
    texts = tiny().generate_batch(["Who?", "What has the cat near the house?"], choices=["red", "blue"], seed=3)
    assert {each.text for each in texts} <= {"red", "blue"}


def test_what_is_certain_takes_no_pass() -> None:
    """All but the digits stands there at the first step, and the text ends with the match without a look."""
    with tiny().stream("Who?", regex=r"The number of the box is [0-9]\.", max_new_tokens=30) as steps:
        assert next(steps).settled.startswith("The number of the box")
        result = steps.result()
    assert result.passes < result.new_tokens / 2
    assert tiny().generate("Who?", choices=["The cat is here."]).passes <= 1


@pytest.mark.parametrize("name", ["stop", "token_hook", "choices"])
def test_what_does_not_go_with_a_rule_is_named(name: str) -> None:
    value: Any = {"stop": "x", "token_hook": lambda *_: None, "choices": ["a"]}[name]
    with pytest.raises(InvalidOption, match=name):
        tiny().generate("Who?", regex="a+", **{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("choices", []),
        ("choices", "yes"),
        ("choices", ["a", 1]),
        ("regex", 3),
    ],
)
def test_a_rule_of_the_wrong_type_is_named(name: str, value: Any) -> None:
    with pytest.raises(InvalidOption, match=name):
        tiny().generate("Who?", **{name: value})


def test_too_little_room_says_how_much_it_takes() -> None:
    with pytest.raises(TooLittleRoom, match="takes 30 tokens, and there is room for 12") as error:
        tiny().stream("Who?", regex="Q{30}", max_new_tokens=12)
    assert (error.value.shortest, error.value.room) == (30, 12)
    with pytest.raises(TooLittleRoom, match="size"):
        tiny().fill(["a", Hole(2, regex="Q{30}")])
