"""Text around holes comes back as it was given, byte for byte, though the tokenizer composes characters (NFC)."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dream_edge_export.checkpoint.tokenizer import convert_tokenizer
from dream_edge_runtime.arrays import IntArray
from dream_edge_runtime.generation.results import MASK_SYMBOL, CanvasReader
from dream_edge_runtime.model import DreamModel
from dream_edge_runtime.text.tokenizer import Tokenizer
from support.checkpoints import write_checkpoint
from support.networks import random_network, small_config

TEXTS = {
    "combining accents": "Le cafe\u0301, a\u0301\u0301, q\u0307\u0323",
    "an accent first": "\u0301bc",
    "Hangul jamo": "\u1112\u1161\u11ab\u1100\u1173\u11af",
    "the angstrom sign": "10 \u212b",
    "emoji": "\U0001f469\u200d\U0001f469\u200d\U0001f467 \U0001f600",
    "a composition exclusion": "\u0958\U0001d15e",
    "line ends": "a\r\n\r\nb\r\n",
    "special tokens as text": "<|mask|> e\u0301 <|im_end|>",
    "a replacement character": "\ufffde\u0301\ufffd",
    "nothing": "",
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> DreamModel:
    directory = tmp_path_factory.mktemp("tokenizer")
    tokenizer = Tokenizer.from_bytes(convert_tokenizer(directory, write_checkpoint(directory)))
    return DreamModel(random_network(small_config()), tokenizer)


@pytest.mark.parametrize("suffix", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("prefix", TEXTS.values(), ids=TEXTS)
def test_prefix_and_suffix_come_back(model: DreamModel, prefix: str, suffix: str) -> None:
    result = model.infill(prefix, suffix, 3)
    assert result.text == prefix + result.holes[0] + suffix
    assert result.new_tokens == 3


@pytest.mark.parametrize("bos", [False, True])
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_pieces_of_a_template_come_back(model: DreamModel, text: str, bos: bool) -> None:
    result = model.fill([text, 2, text, text, 1, 1, text], bos=bos)
    first, second, third = result.holes
    assert result.text == f"{text}{first}{text}{text}{second}{third}{text}"


@pytest.mark.parametrize("text", [text for text in TEXTS.values() if text], ids=[name for name in TEXTS if TEXTS[name]])
@pytest.mark.parametrize("size", [0, 3])
def test_fixed_ending_comes_back(model: DreamModel, text: str, size: int) -> None:
    length = size + len(model.tokenizer.encode(text))
    with model.stream("hello", end_with=text, max_new_tokens=length, steps=2) as steps:
        assert all(step.text.endswith(text) for step in steps)
    assert steps.result().text.endswith(text)
    assert steps.result().new_tokens == size


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_steps_show_it_too(model: DreamModel, text: str) -> None:
    with model.stream_fill([text, 2, text, 2, text], steps=4) as stream:
        for step in stream:
            assert step.text.startswith(text)
            assert step.text.endswith(text)
            assert step.text.count(MASK_SYMBOL) == int(step.masked.sum())
            assert step.text.startswith(step.settled)
            first, second = step.holes
            for between in (range(first.start), range(first.stop, second.start), range(second.stop, len(step.ids))):
                assert "".join(step.token_texts(between)) == text
            assert len(step.token_texts(step.shown)) == len(step.ids)
            one, other = step.hole_texts
            assert step.text == f"{text}{one}{text}{other}{text}"
            assert step.settled_hole_texts == tuple(each.split(MASK_SYMBOL)[0] for each in step.hole_texts)
    assert step.hole_texts == stream.result().holes


@settings(max_examples=200, deadline=None)
@given(text=st.text())
def test_tokens_and_the_parts_of_any_text_they_stand_for_agree(text: str, model: DreamModel) -> None:
    if any("\ud800" <= each <= "\udfff" for each in text):
        return
    aligned = model.tokenizer.align(text)
    assert "".join(aligned.pieces) == text
    assert [*aligned.ids] == (model.tokenizer.encode(text) if text else [])
    assert model.tokenizer.decode(aligned.ids) == unicodedata.normalize("NFC", text)


def test_a_given_token_that_a_hook_changes_is_read_from_the_canvas(model: DreamModel) -> None:
    letters = model.tokenizer.encode("xy")

    def change(step: int | None, ids: IntArray) -> IntArray:
        changed = ids.copy()
        if step is None:
            changed[: len(letters)] = letters
        return changed

    result = model.infill("ab\u212b", "e\u0301", 2, token_hook=change)
    assert result.text.startswith("xy")
    assert result.text.endswith(result.holes[0] + "e\u0301")


def test_holes_that_grow_and_shrink_keep_what_is_around_them(model: DreamModel) -> None:
    text = "cafe\u0301 \u212b"
    aligned = model.tokenizer.align(text)
    reader = CanvasReader(model.tokenizer, 0, given=(aligned, aligned))
    for size in (0, 1, 5):
        inside: Sequence[int] = model.tokenizer.encode("x") * size
        ids = np.array([*aligned.ids, *inside, *aligned.ids])
        hole = range(len(aligned.ids), len(aligned.ids) + size)
        assert reader.text(ids, np.zeros(len(ids), bool), [hole]) == text + "x" * size + text
