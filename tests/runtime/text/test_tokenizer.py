"""The runtime's tokenizer: text stays text, and a tokenizer.json from a stranger brings nothing but a vocabulary."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dream_edge_runtime.errors import CorruptArtifact, InvalidText, InvalidTokenId
from dream_edge_runtime.text.tokenizer import BPE, PIPELINE, Tokenizer
from support.strings import varied_strings
from support.vocabulary import ADDED_TOKENS, base_vocabulary, special_ids

IDS = special_ids()
MASK, END = IDS["mask_token_id"], IDS["eos_token_id"]


def tokenizer_json() -> dict[str, Any]:
    vocab, merges = base_vocabulary()
    added = {content: len(vocab) + index for index, content in enumerate(ADDED_TOKENS)}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    raw = {
        **PIPELINE,
        "added_tokens": [{"id": index, "content": content, **flags} for content, index in added.items()],
        "model": {**BPE, "vocab": {**vocab, **added}, "merges": [" ".join(pair) for pair in merges]},
    }
    copy: dict[str, Any] = json.loads(json.dumps(raw))
    return copy


SMALL = json.dumps(tokenizer_json()).encode()
TOKENIZER = Tokenizer.from_bytes(SMALL)


@pytest.fixture
def tokenizer() -> Tokenizer:
    return TOKENIZER


def test_merges_are_applied_by_rank(tokenizer: Tokenizer) -> None:
    vocab, merges = base_vocabulary()
    rank = {pair: index for index, pair in enumerate(merges)}
    for word in ("the", "Ġthe", "Ġassistant", "Ġhappens", "xyz"):
        parts = list(word)
        while pairs := [pair for pair in pairwise(parts) if pair in rank]:
            best = min(pairs, key=rank.__getitem__)
            at = next(i for i in range(len(parts)) if (parts[i], parts[i + 1]) == best)
            parts[at : at + 2] = ["".join(best)]
        assert tokenizer.encode(word.replace("Ġ", " ")) == [vocab[part] for part in parts]


@pytest.mark.parametrize("special", [*ADDED_TOKENS, "a <|mask|><|mask|>\n<|im_end|>"])
def test_special_tokens_in_a_text_are_text(tokenizer: Tokenizer, special: str) -> None:
    ids = tokenizer.encode(special)
    assert tokenizer.special_ids.isdisjoint(ids)
    assert tokenizer.decode(ids) == special


def test_special_ids(tokenizer: Tokenizer) -> None:
    assert tokenizer.special_id("<|mask|>") == MASK
    assert tokenizer.special_id("<|nothing|>") is None
    assert tokenizer.special_id("the") is None
    assert tokenizer.special_ids == {tokenizer.special_id(content) for content in ADDED_TOKENS}
    assert tokenizer.is_special(MASK)
    assert not tokenizer.is_special(0)
    assert tokenizer.vocab_size == len(base_vocabulary()[0]) + len(ADDED_TOKENS)


def test_decode_leaves_special_tokens_out_unless_asked(tokenizer: Tokenizer) -> None:
    ids = [*tokenizer.encode("Hello"), MASK, *tokenizer.encode(" you"), END]
    assert tokenizer.decode(ids) == "Hello you"
    assert tokenizer.decode(ids, skip_special=False) == "Hello<|mask|> you<|endoftext|>"
    assert tokenizer.decode(np.array(ids)) == "Hello you"
    assert tokenizer.decode(iter(ids)) == "Hello you"
    assert tokenizer.decode([]) == ""


def test_ids_without_a_token(tokenizer: Tokenizer) -> None:
    assert tokenizer.decode([tokenizer.vocab_size + 3, *tokenizer.encode("a")]) == "a"
    for index in (-1, 1 << 32):
        with pytest.raises(InvalidTokenId, match=str(index)):
            tokenizer.decode([index])


def test_one_token_alone(tokenizer: Tokenizer) -> None:
    euro = tokenizer.encode("€")
    assert len(euro) == 3
    assert [tokenizer.token_text(index) for index in euro] == ["\ufffd"] * 3
    assert tokenizer.token_text(MASK) == "<|mask|>"
    assert tokenizer.token_text(tokenizer.encode(" the")[0]) == " the"


@pytest.mark.parametrize(("text", "position"), [("\ud800", 0), ("ab\udc00c", 2), ("😀\ud83d", 1)])
def test_lone_surrogate_is_named_by_position(tokenizer: Tokenizer, text: str, position: int) -> None:
    with pytest.raises(InvalidText, match=f"character {position}"):
        tokenizer.encode(text)


@given(st.text())
def test_any_text_comes_back_normalized(text: str) -> None:
    ids = TOKENIZER.encode(text)
    assert TOKENIZER.encode(TOKENIZER.decode(ids)) == ids
    assert TOKENIZER.special_ids.isdisjoint(ids)


@pytest.mark.parametrize("text", ["a", " ", "\n", " \n", "1", "é", "'", "你", "<|mask|>"])
def test_long_runs_are_encoded(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text * 20_000)) == text * 20_000


def test_threads_share_one_tokenizer(tokenizer: Tokenizer) -> None:
    texts = varied_strings()[:2000]
    alone = [tokenizer.encode(text) for text in texts]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(tokenizer.encode, texts)) == alone


def test_nothing_is_no_tokenizer() -> None:
    with pytest.raises(CorruptArtifact, match=r"file\.json"):
        Tokenizer.from_bytes(b"", source=Path("tökenizer file.json"))


def test_needs_no_more_than_the_tokenizers_library() -> None:
    code = (
        "import sys; from dream_edge_runtime.text import tokenizer, chat; "
        "print({'torch', 'transformers', 'numpy', 'onnxruntime'} & set(sys.modules))"
    )
    path = [str(Path(entry).resolve()) for entry in sys.path]
    command = [sys.executable, "-c", f"import sys; sys.path[:0] = {path!r}; {code}"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "set()\n"


def _split(raw: dict[str, Any]) -> dict[str, Any]:
    split: dict[str, Any] = raw["pre_tokenizer"]["pretokenizers"][0]
    return split


HOSTILE: dict[str, Callable[[dict[str, Any]], object]] = {
    "pattern_that_does_not_compile": lambda raw: _split(raw).update(pattern={"Regex": "(?<x"}),
    "pattern_that_never_ends": lambda raw: _split(raw).update(pattern={"Regex": "(a|a)*$"}),
    "replacing_normalizer": lambda raw: raw.update(
        normalizer={"type": "Replace", "pattern": {"Regex": ".*"}, "content": "x" * 99}
    ),
    "post_processor": lambda raw: raw.update(
        post_processor={"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    ),
    "truncation": lambda raw: raw.update(
        truncation={"max_length": 1, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    ),
    "other_decoder": lambda raw: raw.update(decoder=None),
    "word_piece": lambda raw: raw["model"].update(type="WordPiece"),
    "dropout": lambda raw: raw["model"].update(dropout=0.1),
    "unknown_model_field": lambda raw: raw["model"].update(extra=1),
    "unknown_field": lambda raw: raw.update(extra=1),
    "no_model": lambda raw: raw.pop("model"),
    "no_vocab": lambda raw: raw["model"].pop("vocab"),
    "vocab_is_a_list": lambda raw: raw["model"].update(vocab=[]),
    "byte_missing": lambda raw: raw["model"]["vocab"].pop("!"),
    "same_id_twice": lambda raw: raw["model"]["vocab"].update({"!": 1}),
    "negative_id": lambda raw: raw["model"]["vocab"].update({"zz": -1}),
    "huge_id": lambda raw: raw["model"]["vocab"].update({"zz": 1 << 31}),
    "fractional_id": lambda raw: raw["model"]["vocab"].update({"zz": 1.5}),
    "surrogate": lambda raw: raw["model"]["vocab"].update({"\ud800": 440}),
    "merge_of_unknown_tokens": lambda raw: raw["model"]["merges"].append("zq qz"),
    "merge_of_three": lambda raw: raw["model"]["merges"].append("a b c"),
    "merge_of_numbers": lambda raw: raw["model"].update(merges=[1, 2]),
    "added_token_not_in_vocab": lambda raw: raw["added_tokens"].append({**raw["added_tokens"][0], "content": "<|x|>"}),
    "added_token_with_other_id": lambda raw: raw["added_tokens"][0].update(id=3),
    "added_token_twice": lambda raw: raw["added_tokens"].append(raw["added_tokens"][0]),
    "added_token_without_flags": lambda raw: raw["added_tokens"][0].pop("special"),
    "added_token_of_nothing": lambda raw: raw["added_tokens"][0].update(content=""),
    "added_token_is_a_list": lambda raw: raw["added_tokens"][0].update(content=["a"]),
    "added_number": lambda raw: raw["added_tokens"].append(1),
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE)
def test_hostile_tokenizer_json_is_refused(change: Callable[[dict[str, Any]], object]) -> None:
    raw = tokenizer_json()
    change(raw)
    with pytest.raises(CorruptArtifact, match=r"tokenizer\.json"):
        Tokenizer.from_bytes(json.dumps(raw).encode())


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b"null", b"\xff", b"[" * 100000, SMALL[:-1], SMALL + b"x", b'{"a":1,"a":1}']
)
def test_damaged_tokenizer_json_is_refused(data: bytes) -> None:
    with pytest.raises(CorruptArtifact):
        Tokenizer.from_bytes(data)


def test_panic_of_the_library_becomes_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    import tokenizers

    class PanicException(BaseException):
        pass

    class Panicking:
        @staticmethod
        def from_buffer(_: bytes) -> None:
            raise PanicException("index out of bounds")

    monkeypatch.setattr(tokenizers, "Tokenizer", Panicking)
    with pytest.raises(CorruptArtifact, match="index out of bounds"):
        Tokenizer.from_bytes(SMALL)
