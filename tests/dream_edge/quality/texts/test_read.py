"""Texts of a comparison: files, the built-in ones, the tiny model's own; and how they are masked."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dream_edge.quality.errors import NoData, UnreadableData
from dream_edge.quality.texts.masking import mask_passages
from dream_edge.quality.texts.read import (
    Passage,
    Sample,
    builtin_texts,
    passages,
    read_texts,
    tiny_held_out,
    tiny_training,
)
from dream_edge.tasks import countdown, sudoku
from dream_edge_export.checkpoint.config import read_checkpoint_config
from dream_edge_export.checkpoint.tokenizer import convert_tokenizer
from dream_edge_runtime.errors import DreamEdgeError
from dream_edge_runtime.text.tokenizer import Tokenizer
from support.checkpoints import write_checkpoint
from support.networks import small_config

MASK = 7


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    directory = tmp_path_factory.mktemp("checkpoint")
    write_checkpoint(directory)
    return Tokenizer.from_bytes(convert_tokenizer(directory, read_checkpoint_config(directory)))


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_blank_lines_separate_the_texts_of_a_text_file(tmp_path: Path, line_end: str) -> None:
    content = line_end.join(["one", "  still one", "", "", " \t", "two", ""])
    assert read_texts(write(tmp_path / "a.txt", content)) == [f"one{line_end}  still one", "two"]


def test_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    assert read_texts(write(tmp_path / "a.txt", "\ufeffone")) == ["one"]


def test_lines_hold_texts_or_conversations(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    pair = {"prompt": "1 + 1 = ", "completion": "2"}
    lines = [
        json.dumps({"text": "a\u2028b"}, ensure_ascii=False),
        "",
        json.dumps({"messages": turns, "id": 1}),
        json.dumps(pair),
    ]
    assert read_texts(write(tmp_path / "a.jsonl", "\n".join(lines))) == [
        "a\u2028b",
        Sample(({"role": "user", "content": "Hi"},), "Hello"),
        Sample("1 + 1 = ", "2"),
    ]


BAD_LINES: dict[str, Any] = {
    "no_object": [1],
    "neither": {"prompt": "x"},
    "completion_is_a_list": {"prompt": "x", "completion": ["y"]},
    "text_is_a_number": {"text": 3},
    "no_messages": {"messages": []},
    "user_last": {"messages": [{"role": "user", "content": "x"}]},
    "assistant_only": {"messages": [{"role": "assistant", "content": "x"}]},
    "unknown_role": {"messages": [{"role": "robot", "content": "x"}, {"role": "assistant", "content": "x"}]},
    "content_is_a_list": {"messages": [{"role": "user", "content": []}, {"role": "assistant", "content": "x"}]},
    "lone_surrogate": {"text": "\ud800"},
}


@pytest.mark.parametrize("entry", BAD_LINES.values(), ids=BAD_LINES)
def test_bad_line_is_named(tmp_path: Path, entry: object) -> None:
    path = write(tmp_path / "a.jsonl", '{"text": "fine"}\n' + json.dumps(entry))
    with pytest.raises(UnreadableData, match="line 2"):
        read_texts(path)


@pytest.mark.parametrize(
    ("turn", "message"),
    [
        ({"role": "tool", "content": "4"}, "message 2 has the role 'tool'; turns of system, user and assistant"),
        ({"role": "assistant", "content": None, "tool_calls": []}, "message 2 has content that is no text but None"),
        ({"role": "user", "content": [{"type": "text"}]}, "message 2 has content that is no text but"),
        ("hello", "message 2 has the role None"),
    ],
)
def test_turn_that_is_not_read_is_told_by_what_it_is(tmp_path: Path, turn: object, message: str) -> None:
    turns = [{"role": "user", "content": "2 + 2?"}, turn, {"role": "assistant", "content": "4"}]
    with pytest.raises(UnreadableData, match=message):
        read_texts(write(tmp_path / "a.jsonl", json.dumps({"messages": turns})))


@pytest.mark.parametrize("content", [b"{", b'{"text": "x"} {}', b"[" * 100_000, b"\xff\xfe"], ids=range(4))
def test_damaged_lines_are_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(UnreadableData):
        read_texts(write(tmp_path / "a.jsonl", content))


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.txt").mkdir()
    for path in (tmp_path / "absent.txt", tmp_path / "folder.txt", write(tmp_path / "a.pdf", "x")):
        with pytest.raises(UnreadableData, match=path.name):
            read_texts(path)


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
def test_empty_files_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(NoData):
        read_texts(write(tmp_path / name, " \n\n"))


# --- texts -----------------------------------------------------------------------------------------------------------


def test_built_in_texts_are_many_and_different() -> None:
    texts = builtin_texts()
    assert len(set(texts)) == len(texts) >= 40
    assert all(isinstance(text, str) and 60 <= len(text) <= 1000 for text in texts)


def test_tiny_texts_are_cases_of_its_tasks_and_none_is_both_held_out_and_trained_on() -> None:
    held_out, training = tiny_held_out(), tiny_training()
    assert not set(map(repr, held_out)) & set(map(repr, training))
    for texts, cases in ((held_out, 40), (training, 64)):
        assert Counter(type(text) for text in texts) == {Sample: 3 * cases, str: cases}
        samples = [text for text in texts if isinstance(text, Sample)]
        assert all(sudoku.solves(str(sample.prompt), sample.answer) for sample in samples[:cases])
        assert all(countdown.solves(str(sample.prompt), sample.answer) for sample in samples[cases : 2 * cases])
        for sample in samples[2 * cases :]:
            assert not isinstance(sample.prompt, str)
            assert [sample.prompt[0]["role"], sample.prompt[-1]["role"]] == ["system", "user"]


def test_prompt_stays_visible_and_the_turn_end_is_part_of_the_answer(tokenizer: Tokenizer) -> None:
    conversation = Sample(({"role": "user", "content": "What?"},), "The dog")
    (found,) = passages([conversation], tokenizer, 512)
    assert found.ids[found.start :].tolist() == [*tokenizer.encode("The dog"), tokenizer.special_id("<|im_end|>")]
    assert tokenizer.decode(found.ids[: found.start]).endswith("What?\nassistant\n")


def test_special_token_in_a_text_is_text(tokenizer: Tokenizer) -> None:
    (found,) = passages(["<|mask|>"], tokenizer, 512)
    assert len(found.ids) > 1


@pytest.mark.parametrize("longest", [2, 3, 7, 100])
def test_cut_texts_lose_no_maskable_token(tokenizer: Tokenizer, longest: int) -> None:
    sample = Sample("Input and then the ", "other thing happens in the rain")
    (whole,) = passages([sample], tokenizer, 1000)
    pieces = passages([sample], tokenizer, longest)
    assert all(len(piece.ids) <= longest and 0 <= piece.start < len(piece.ids) for piece in pieces)
    kept = np.concatenate([piece.ids[piece.start :] for piece in pieces])
    assert kept.tolist() == whole.ids[whole.start :].tolist()


def test_text_with_a_lone_surrogate_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(DreamEdgeError):
        passages(["\udc80"], tokenizer, 512)


# --- masks -----------------------------------------------------------------------------------------------------------


def draw(lengths: list[tuple[int, int]], count: int, seed: int = 0, bins: int = 5) -> list[Any]:
    """Masked passages of ids 100, 101, …; `lengths` are (length, start)."""
    made = [Passage(np.arange(100, 100 + length), start) for length, start in lengths]
    return [*mask_passages(made, small_config(mask_token_id=MASK), count=count, bins=bins, seed=seed)]


def test_masks_replace_what_they_hide_and_spare_the_prompt() -> None:
    for masked in draw([(20, 5), (9, 0), (30, 29)], 60):
        hidden = masked.canvas == MASK
        assert np.flatnonzero(hidden).tolist() == masked.positions.tolist()
        assert masked.targets.tolist() == (100 + masked.positions).tolist()
        assert (masked.canvas[~hidden] == 100 + np.flatnonzero(~hidden)).all()
        start = {20: 5, 9: 0, 30: 29}[len(masked.canvas)]
        assert masked.positions[0] >= start
        ratio = len(masked.positions) / (len(masked.canvas) - start)
        assert masked.bin / 5 < ratio <= (masked.bin + 1) / 5 + 1e-12


def test_ratios_are_stratified() -> None:
    """Of 100 draws from 100 maskable positions, each number of masks from 1 to 100 comes up once."""
    assert sorted(len(masked.positions) for masked in draw([(100, 0)], 100)) == [*range(1, 101)]
    assert Counter(masked.bin for masked in draw([(100, 0)], 50)) == dict.fromkeys(range(5), 10)


def test_every_text_is_used_equally_often() -> None:
    used = Counter(len(masked.canvas) for masked in draw([(10, 0), (11, 0), (12, 0), (13, 0)], 20))
    assert set(used.values()) == {5}


def test_number_of_masks_is_uniform_and_positions_are_too() -> None:
    found = draw([(8, 0)], 8000)
    assert set(Counter(len(masked.positions) for masked in found).values()) == {1000}
    positions = Counter(np.concatenate([masked.positions for masked in found]).tolist())
    assert all(abs(count - 4500) < 250 for count in positions.values())


def test_seed_decides_the_masks() -> None:
    first, again, other = (
        [masked.positions.tolist() for masked in draw([(50, 0)], 5, seed=seed)] for seed in (1, 1, 2)
    )
    assert first == again != other
