"""Drafts: which tokens stand, by masking each group by hand; what changes; and with what they go together."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

import dream_edge
from dream_edge import Change, Draft, Hole
from dream_edge_runtime.errors import (
    Cancelled,
    CanvasTooLong,
    DreamEdgeError,
    InvalidOption,
    InvalidTemplate,
    InvalidText,
    NonFiniteLogits,
)
from dream_edge_runtime.generation.canvas import Canvas, MaskedSequence
from dream_edge_runtime.generation.drafts import StandingText, settle_drafts
from dream_edge_runtime.generation.results import MASK_SYMBOL, CanvasReader
from dream_edge_runtime.model import DreamModel
from dream_edge_runtime.text.tokenizer import AlignedText, Tokenizer
from support.networks import FakeNetwork, random_network
from tools.tiny.grammar import is_grammatical

WRONG = "The old woman sings because she are happy."
RIGHT = "The old woman sings because she is happy."


@cache
def tiny(name: str = "tiny") -> DreamModel:
    return dream_edge.load(name, threads=1)


# --- which tokens stand ----------------------------------------------------------------------------------------------


def judge_plainly(
    network: FakeNetwork,
    tokenizer: Tokenizer,
    ids: Sequence[int],
    drafts: Sequence[tuple[range, float, int]],
    characters: Sequence[Sequence[int]],
) -> tuple[set[int], int]:
    """The rule restated: places of `ids` that are doubted, and how many passes that took.

    `characters` are the places of each character of several tokens, which is doubted as a whole.
    """
    mask = network.config.mask_token_id
    special = [*tokenizer.special_ids, *range(tokenizer.vocab_size, network.config.vocab_size)]
    passes = 0

    def shares(places: Sequence[int]) -> dict[int, float]:
        nonlocal passes
        passes += 1
        seen = torch.tensor([[mask if at in places else token for at, token in enumerate(ids)]])
        with torch.inference_mode():
            probabilities = network.logits_of(seen, torch.ones_like(seen, dtype=torch.bool))[0].double()
            probabilities = probabilities.softmax(-1)
            probabilities[:, special] = 0
        return {at: float(probabilities[at - 1, ids[at]] / probabilities[at - 1].max()) for at in places}

    bounds = {at: bound for hole, bound, _ in drafts for at in hole if at > 0}
    share: dict[int, float] = {}
    for group in range(max(groups for _, _, groups in drafts)):
        places = [at for hole, _, groups in drafts for at in hole if at > 0 and (at - hole.start) % groups == group]
        if places:
            share |= shares(places)
    alike = {at: tuple(places) for places in characters for at in places}
    doubted = {one for at in bounds if share[at] < bounds[at] for one in alike.get(at, (at,))}
    while doubted:
        share |= shares(sorted(doubted))
        likely = [at for at in doubted if all(share[one] >= bounds[one] for one in alike.get(at, (at,)))]
        if not likely:
            break
        best = max(likely, key=lambda at: (share[at], -at))
        doubted -= {*alike.get(best, (best,))}
    return doubted, passes


@pytest.mark.parametrize("bound", [0.0, 0.02, 0.2, 0.6, 1.0])
@pytest.mark.parametrize("groups", [1, 2, 4, 100])
@pytest.mark.parametrize("seed", range(3))
def test_tokens_that_stand_are_those_of_the_rule_restated(bound: float, groups: int, seed: int) -> None:
    tokenizer = tiny().tokenizer
    network = random_network(tiny().config, seed=seed, scale=1.0)
    mask, pad = network.config.mask_token_id, network.config.pad_token_id
    first, second = (tokenizer.align(text) for text in ("A \U0001f600 old man, sleepy", " and hungry\u0301 as ever"))
    before, between = tokenizer.encode("One:"), tokenizer.encode(" - ")
    for given in ([], before):
        ids = [*given, *first.ids, *between, *second.ids]
        holes = [range(len(given), len(given) + len(first.ids)), range(len(ids) - len(second.ids), len(ids))]
        sequence = MaskedSequence.of([given, len(first.ids), between, len(second.ids)], mask)
        canvas = Canvas([sequence], mask, pad, shift=1)
        standing = [StandingText(first, bound, groups), StandingText(second, bound, 3)]
        settled = settle_drafts(network, canvas, 0, standing, tokenizer)
        places = [at for hole in holes for at in hole]
        pieces = [*first.pieces, *second.pieces]
        starts = [at for at, piece in enumerate(pieces) if piece]
        characters = [places[begin:end] for begin, end in zip(starts, [*starts[1:], len(places)], strict=True)]
        doubted, passes = judge_plainly(
            network, tokenizer, ids, [(holes[0], bound, groups), (holes[1], bound, 3)], characters
        )
        assert {*np.flatnonzero(canvas.masked[0]).tolist()} == doubted
        assert settled is not None
        assert {*settled.positions.tolist()} == {*places} - doubted
        assert settled.passes == passes
        assert [*settled.probability] == sorted(settled.probability, reverse=True)
        assert canvas.sequence(0).tolist() == [
            network.config.mask_token_id if at in doubted else ids[at] for at in range(len(ids))
        ]
        assert bound > 0 or not doubted
        assert bound < 1 or doubted


# --- what comes out --------------------------------------------------------------------------------------------------


def undo(text: str, changes: Sequence[Change]) -> str:
    """`text` with what was given in the place of each of `changes`."""
    for change in reversed(changes):
        text = text[: change.start] + change.before + text[change.stop :]
    return text


def test_a_wrong_word_is_written_again_and_named() -> None:
    mended = tiny().fill([Draft(WRONG)], bos=True)
    assert mended.text == RIGHT
    assert mended.changes == (Change(31, 34, " are"),)
    assert mended.text[31:34] == " is"
    assert mended.holes == (RIGHT,)
    assert mended.new_tokens == 1
    assert mended.prompt_tokens + mended.new_tokens == 1 + tiny().count_tokens(WRONG)


def test_what_is_right_stands() -> None:
    kept = tiny().fill([Draft(RIGHT)], bos=True, history=True)
    assert (kept.text, kept.changes, kept.new_tokens) == (RIGHT, (), 0)
    assert (kept.steps, kept.passes) == (1, 4)
    assert kept.history is not None
    assert [*kept.history[0][1:]] == tiny().tokenizer.encode(RIGHT)


TEXTS = ["e\u0301 \u212b\r\n", "\u1112\u1161\u11ab \U0001f469\u200d\U0001f467", "<|mask|> a\ufffd", RIGHT]


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
@pytest.mark.parametrize("bound", [0, 0.1, 1])
def test_every_step_tells_what_is_not_as_it_was(text: str, bound: float) -> None:
    model = DreamModel(random_network(tiny().config), tiny().tokenizer)
    pieces: list[str | int | Hole | Draft] = [
        text,
        Draft(text, bound=bound),
        2,
        Hole(model.count_tokens(text), instead_of=text),
        text,
    ]
    before = ""
    with model.stream_fill(pieces, steps=6, seed=0) as steps:
        for step in steps:
            draft, hole, rewritten = step.hole_texts
            assert step.text == text + draft + hole + rewritten + text
            assert undo(step.text, step.changes) == text + text + hole + text + text
            assert "".join(step.token_texts(step.shown)) == step.text
            assert step.text.count(MASK_SYMBOL) == int(step.masked.sum())
            assert step.text.startswith(step.settled)
            assert step.settled.startswith(before.rstrip("\ufffd"))
            before = step.settled
    result = steps.result()
    assert (result.text, result.changes, result.holes) == (step.text, step.changes, step.hole_texts)
    assert bound or draft == text
    assert step.progress == 1


def test_the_first_step_settles_what_stands() -> None:
    steps = list(tiny().stream_fill([Draft(WRONG), Hole(1)], bos=True))
    first, hole = steps[0], steps[0].holes[0]
    assert first.text.startswith("The old woman sings because she░")
    assert {*first.revealed.tolist()} == {at for at in hole if not first.masked[at]}
    assert len(first.confidence) == len(first.revealed)
    assert 0 < first.progress < 1
    assert [step.index for step in steps] == [*range(1, len(steps) + 1)]
    assert all(step.steps >= len(steps) for step in steps)
    for step in steps[1:]:
        assert not {*step.revealed.tolist()} & {*first.revealed.tolist()}


def test_what_nothing_precedes_stands() -> None:
    model = DreamModel(random_network(tiny().config), tiny().tokenizer)
    alone, begun = (model.fill([Draft("Who knows?", bound=1)], bos=bos) for bos in (False, True))
    first = model.tokenizer.encode("Who")[0]
    assert alone.token_ids[0] == first
    assert begun.token_ids[0] != first


@pytest.mark.parametrize("preset", ["exact", "careful", "fast", "streaming", "turbo"])
@pytest.mark.parametrize("name", ["tiny", "tiny-blocks"])
def test_drafts_go_with_every_preset_and_stand_in_all(name: str, preset: Any) -> None:
    model = tiny(name)
    mended = model.fill([Draft(WRONG), " The", Hole(1), " sleeps."], bos=True, preset=preset)
    assert is_grammatical(mended.text.split(" The")[0])
    assert mended.text.endswith(" sleeps.")
    assert undo(mended.text, mended.changes).startswith(WRONG)


def test_a_seed_repeats_a_draft() -> None:
    model, how = tiny(), dict[str, Any](temperature=1.5, bos=True)
    first = [model.fill([Draft(WRONG, bound=0.5)], seed=seed, **how).text for seed in range(6)]
    assert first == [model.fill([Draft(WRONG, bound=0.5)], seed=seed, **how).text for seed in range(6)]
    assert len({*first}) > 1


def test_a_hole_that_takes_the_place_of_words_tells_them() -> None:
    model = tiny()
    filled = model.fill(["The old man", Hole(1, instead_of=" jumped"), " because he", Hole(1), " hungry."])
    assert [change.before for change in filled.changes] == [" jumped"]
    same = model.fill(["The old man", Hole(1, instead_of=filled.holes[0]), " because he", Hole(1), " hungry."])
    assert (same.text, same.changes) == (filled.text, ())
    longer = model.fill(["The old man", Hole(2, instead_of=" jumped"), " because he is hungry."])
    assert undo(longer.text, longer.changes) == "The old man jumped because he is hungry."


def test_half_a_character_is_not_taken_for_all_of_it() -> None:
    tokenizer = tiny().tokenizer
    stood = tokenizer.align("\U0001f600")
    reader = CanvasReader(tokenizer, 0, given=(AlignedText(), AlignedText()), stood=(stood,))
    ids, hole = np.array(stood.ids), range(len(stood.ids))
    assert reader.hole_text(ids, np.zeros(len(ids), bool), 0, hole) == "\U0001f600"
    assert reader.hole_text(ids[:-1], np.zeros(len(ids) - 1, bool), 0, hole) == "\ufffd"


def test_the_same_text_in_other_tokens_is_no_change() -> None:
    tokenizer = tiny().tokenizer
    stood, ids = tokenizer.align(" the"), np.array([*tokenizer.encode(" t"), *tokenizer.encode("he")])
    assert len(stood.ids) < len(ids)
    reader = CanvasReader(tokenizer, 0, given=(AlignedText(), AlignedText()), stood=(stood,))
    masked, hole = np.zeros(len(ids), bool), range(len(ids))
    assert reader.text(ids, masked, [hole]) == " the"
    assert reader.changes(ids, masked, [hole]) == ()
    masked[0] = True
    assert reader.changes(ids, masked, [hole]) == (Change(0, 3, " the"),)


# --- beside holes that must match, growing holes, blocks -------------------------------------------------------------


def test_a_rule_is_for_holes_and_none_for_drafts() -> None:
    pieces: list[str | Hole | Draft] = [Draft(WRONG), " No.", Hole(3), " and", Hole(4, choices=[" black", " white"])]
    filled = tiny().fill(pieces, regex=" [0-9]{2}", bos=True)
    draft, number, choice = filled.holes
    assert draft == RIGHT
    assert re.fullmatch(" [0-9]{2}", number)
    assert choice in (" black", " white")


def test_holes_keep_their_size_beside_drafts_where_they_could_grow() -> None:
    config = replace(tiny().config, expand_token_id=5)
    model = DreamModel(random_network(config), tiny().tokenizer)
    for bound in (0, 1):
        filled = model.fill([Draft(WRONG, bound=bound), 3, "."])
        assert len(filled.token_ids) == model.count_tokens(WRONG) + 3 + 1
    with pytest.raises(InvalidOption, match="drafts, beside which holes keep their size"):
        model.fill([Draft(WRONG), 3], max_hole_tokens=8)
    grown = model.fill(["a", Hole(2, instead_of=" b c"), " d"], max_hole_tokens=12)
    assert undo(grown.text, grown.changes) == "a b c d"


@pytest.mark.parametrize("bound", [0.05, 0.5, 1.0])
def test_a_block_is_judged_by_itself_and_what_stands_before_it(bound: float) -> None:
    model = tiny("tiny-blocks")
    block, mask = model.config.causal_block, model.config.mask_token_id
    assert block is not None
    more = "When the owls was here, he saw him. The dogs sleeps in the boat."
    aligned = model.tokenizer.align(f"{WRONG} {more} {WRONG} {more}")
    ids = [*aligned.ids]
    assert len(ids) > block
    canvas = Canvas([MaskedSequence.of([len(ids)], mask)], mask, model.config.pad_token_id, model.config.shift)
    settle_drafts(model.network, canvas, 0, [StandingText(aligned, bound, 4)], model.tokenizer)
    special = [*model.tokenizer.special_ids, *range(model.tokenizer.vocab_size, model.config.vocab_size)]

    def shares(places: Sequence[int], end: int) -> dict[int, float]:
        seen = np.array([[mask if at in places else token for at, token in enumerate(ids[:end])]])
        at = np.arange(end)
        attended = at[None, :, None] // block >= at[None, None, :] // block
        rows = model.network.forward(seen, at[None], attended, np.array(places), 0.0, None)
        logits = rows.fetch_logits().astype(np.float64)
        logits[:, special] = -np.inf
        return {place: float(np.exp(row[ids[place]] - row.max())) for place, row in zip(places, logits, strict=True)}

    assert model.config.shift == 0
    expected: set[int] = set()
    for start in range(0, len(ids), block):
        end = min(start + block, len(ids))
        groups = [[at for at in range(start, end) if at % 4 == group] for group in range(4)]
        share = {place: one for group in groups for place, one in shares(group, end).items()}
        doubted = {at for at in share if share[at] < bound}
        while doubted:
            share = shares(sorted(doubted), end)
            best = max(doubted, key=lambda at: (share[at], -at))
            if share[best] < bound:
                break
            doubted -= {best}
        expected |= doubted
    assert {*np.flatnonzero(canvas.masked[0]).tolist()} == expected
    assert expected


def test_judging_can_be_cancelled() -> None:
    model, cancel = tiny(), threading.Event()

    class Cancelling:
        """Sets the event in the second pass."""

        def __init__(self) -> None:
            self.passes = 0

        def __getattr__(self, name: str) -> Any:
            return getattr(model.network, name)

        def forward(self, *arguments: Any, **options: Any) -> Any:
            self.passes += 1
            if self.passes == 2:
                cancel.set()
            return model.network.forward(*arguments, **options)

    network: Any = Cancelling()
    with pytest.raises(Cancelled):
        replace(model, network=network).fill([Draft(WRONG)], bos=True, cancel=cancel)
    assert network.passes == 2


def test_broken_weights_are_told_before_a_token_is_doubted() -> None:
    network = random_network(tiny().config)
    logits_of = network.logits_of
    network.logits_of = lambda ids, valid: logits_of(ids, valid) * float("nan")
    with pytest.raises(NonFiniteLogits):
        DreamModel(network, tiny().tokenizer).fill([Draft(WRONG)])


BAD: dict[str, tuple[type[DreamEdgeError], str, Callable[[DreamModel], Any]]] = {
    "no text": (InvalidTemplate, "a draft must have a text", lambda model: model.fill([Draft("")])),
    "no text at all": (InvalidTemplate, "a draft must have a text", lambda _: Draft(None)),  # type: ignore[arg-type]
    "all pinned": (InvalidTemplate, "no hole", lambda model: model.fill(["It ", "stands."])),
    "bound over 1": (InvalidOption, "bound", lambda _: Draft("a", bound=1.5)),
    "bound below 0": (InvalidOption, "bound", lambda _: Draft("a", bound=-0.1)),
    "bound that is no number": (InvalidOption, "bound", lambda _: Draft("a", bound=float("nan"))),
    "no group": (InvalidOption, "groups", lambda _: Draft("a", groups=0)),
    "half a group": (InvalidOption, "groups", lambda _: Draft("a", groups=1.5)),  # type: ignore[arg-type]
    "too long": (CanvasTooLong, "context", lambda model: model.fill([Draft("a b " * 9000)])),
    "half a character": (InvalidText, "surrogate", lambda model: model.fill([Draft("a\ud800")])),
    "a rule and only drafts": (InvalidOption, "regex", lambda model: model.fill([Draft("a")], regex="b")),
    "new tokens": (InvalidOption, "max_new_tokens", lambda model: model.fill([Draft("a")], max_new_tokens=3)),
    "words that are no text": (InvalidTemplate, "instead_of", lambda _: Hole(1, instead_of=3)),  # type: ignore[arg-type]
}


@pytest.mark.parametrize(("kind", "message", "call"), BAD.values(), ids=BAD)
def test_what_cannot_be_judged_is_a_typed_error(
    kind: type[DreamEdgeError], message: str, call: Callable[[DreamModel], Any]
) -> None:
    with pytest.raises(kind, match=message):
        call(tiny())
