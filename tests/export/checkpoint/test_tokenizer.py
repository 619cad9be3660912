"""The converted tokenizer against transformers' Qwen2 tokenizer, and what makes tokenizer files unusable."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from transformers import Qwen2Tokenizer

from dream_edge_export.checkpoint.config import read_checkpoint_config
from dream_edge_export.checkpoint.forms import parse_config
from dream_edge_export.checkpoint.tokenizer import convert_tokenizer
from dream_edge_export.errors import InvalidTokenizer
from dream_edge_runtime.errors import DreamEdgeError, UnreadableFile
from dream_edge_runtime.format.model_config import ModelConfig
from dream_edge_runtime.text.tokenizer import Tokenizer
from support.checkpoints import config_dict, write_checkpoint
from support.qwen2 import PLAIN, SPECIAL_IDS, VOCAB_SIZE, ranks, write_qwen2_tokenizer
from support.strings import varied_strings, without_lookalikes
from support.vocabulary import base_vocabulary

TINY = Path(__file__).parents[3] / "dream_edge" / "tiny"
CONFIG = parse_config(config_dict())
QWEN2 = parse_config(config_dict(vocab_size=VOCAB_SIZE) | SPECIAL_IDS)


@pytest.fixture(scope="module")
def qwen2(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ModelConfig]:
    directory = tmp_path_factory.mktemp("qwen2")
    write_qwen2_tokenizer(directory)
    return directory, QWEN2


@pytest.fixture(scope="module", params=["tiny", "qwen2"])
def files(request: pytest.FixtureRequest) -> tuple[Path, ModelConfig]:
    """A directory of tokenizer files and the configuration they belong to."""
    if request.param == "tiny":
        return TINY, read_checkpoint_config(TINY)
    real: tuple[Path, ModelConfig] = request.getfixturevalue("qwen2")
    return real


@cache
def converted(directory: Path, config: ModelConfig) -> bytes:
    return convert_tokenizer(directory, config)


@pytest.fixture(scope="module")
def pair(files: tuple[Path, ModelConfig]) -> tuple[Tokenizer, Any]:
    """Our tokenizer and transformers', from the same files."""
    return Tokenizer.from_bytes(converted(*files)), Qwen2Tokenizer.from_pretrained(files[0])


def test_encodes_ten_thousand_texts_like_transformers(pair: tuple[Tokenizer, Any]) -> None:
    ours, theirs = pair
    texts = without_lookalikes()
    assert len(texts) >= 10000
    expected = theirs(list(texts), add_special_tokens=False)["input_ids"]
    assert [text for text, ids in zip(texts, expected, strict=True) if ours.encode(text) != ids] == []


def test_lookalikes_are_text_like_with_split_special_tokens(pair: tuple[Tokenizer, Any]) -> None:
    ours, theirs = pair
    texts = varied_strings()
    assert len(texts) - len(without_lookalikes()) > 500
    expected = theirs(list(texts), add_special_tokens=False, split_special_tokens=True)["input_ids"]
    assert [text for text, ids in zip(texts, expected, strict=True) if ours.encode(text) != ids] == []
    assert not any(ours.special_ids.intersection(ids) for ids in expected)


def test_decodes_like_transformers(pair: tuple[Tokenizer, Any]) -> None:
    ours, theirs = pair
    sequences = theirs(list(varied_strings()[::2]), add_special_tokens=False)["input_ids"]  # special ids among them
    broken = [ids[1:] + ids[:1] for ids in sequences[::2]]  # and pieces of characters
    for skip in (False, True):
        expected = theirs.batch_decode(sequences + broken, skip_special_tokens=skip)
        decoded = [ours.decode(ids, skip_special=skip) for ids in sequences + broken]
        assert decoded == expected


def test_decoding_gives_back_the_text_in_nfc(pair: tuple[Tokenizer, Any]) -> None:
    ours, _ = pair
    texts = [
        text for text in without_lookalikes() if ours.decode(ours.encode(text)) != unicodedata.normalize("NFC", text)
    ]
    assert [text for text in texts if all(unicodedata.category(character) != "Cn" for character in text)] == []


def test_special_tokens_are_those_of_transformers(pair: tuple[Tokenizer, Any], files: tuple[Path, ModelConfig]) -> None:
    ours, theirs = pair
    for index, token in theirs.added_tokens_decoder.items():
        assert ours.special_id(token.content) == (index if token.special else None)
        assert ours.token_text(index) == token.content
    assert ours.special_id("<|mask|>") == files[1].mask_token_id
    assert ours.vocab_size == len(theirs) <= files[1].vocab_size


def test_shipped_tokenizer_json_gives_the_same_bytes(files: tuple[Path, ModelConfig], tmp_path: Path) -> None:
    directory, config = files
    Qwen2Tokenizer.from_pretrained(directory).save_pretrained(tmp_path)
    assert not (tmp_path / "vocab.json").exists()
    assert convert_tokenizer(tmp_path, config) == converted(directory, config)


def test_qwen2_equals_tiktoken(qwen2: tuple[Path, ModelConfig]) -> None:
    """A third implementation, on the very file the vocabulary comes from."""
    tiktoken = pytest.importorskip("tiktoken")
    ours = Tokenizer.from_bytes(converted(*qwen2))
    words = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
        r"|\s+(?!\S)|\s+"
    )
    theirs = tiktoken.Encoding("qwen2", pat_str=words, mergeable_ranks=ranks(), special_tokens={})
    texts = [text for text in varied_strings() if not any(plain in text for plain in PLAIN) and _is_old(text)]
    assert len(texts) > 8000
    wrong = [t for t in texts if ours.encode(t) != theirs.encode_ordinary(unicodedata.normalize("NFC", t))]
    assert wrong == []


def _is_old(text: str) -> bool:
    """Whether every character was assigned in Unicode 3.2: later ones depend on the tables of each library."""
    return all(unicodedata.ucd_3_2_0.category(character) != "Cn" for character in text)


# --- other forms of the files ----------------------------------------------------------------------------------------


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    raw = json.loads(path.read_text(encoding="utf-8"))
    change(raw)
    path.write_text(json.dumps(raw), encoding="utf-8")


def test_order_of_the_keys_changes_no_byte(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    expected = convert_tokenizer(tmp_path, CONFIG)
    for name in ("vocab.json", "tokenizer_config.json"):
        raw = json.loads((tmp_path / name).read_text(encoding="utf-8"))
        (tmp_path / name).write_text(json.dumps(dict(reversed(raw.items())), indent=1), encoding="utf-8")
    assert convert_tokenizer(tmp_path, CONFIG) == expected


def test_added_tokens_json_serves_as_well(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    expected = convert_tokenizer(tmp_path, CONFIG)
    decoder = json.loads((tmp_path / "tokenizer_config.json").read_text("utf-8"))["added_tokens_decoder"]
    (tmp_path / "tokenizer_config.json").unlink()
    added = {token["content"]: int(index) for index, token in decoder.items()}
    (tmp_path / "added_tokens.json").write_text(json.dumps(added), "utf-8")
    assert convert_tokenizer(tmp_path, CONFIG) == expected  # chat markers are special even where no file says so
    (tmp_path / "special_tokens_map.json").write_text(
        '{"additional_special_tokens": [{"content": "<|mask|>"}]}', "utf-8"
    )
    assert Tokenizer.from_bytes(convert_tokenizer(tmp_path, CONFIG)).special_id("<|beginoftext|>") is None


def test_tokenizer_json_serves_as_well_beside_the_vocabulary(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    expected = convert_tokenizer(tmp_path, CONFIG)
    (tmp_path / "tokenizer.json").write_bytes(expected)
    edit(tmp_path / "tokenizer_config.json", lambda raw: raw.pop("added_tokens_decoder"))
    assert convert_tokenizer(tmp_path, CONFIG) == expected
    raw = {"<|expand|>": 440}
    (tmp_path / "added_tokens.json").write_text(json.dumps(raw), "utf-8")
    assert Tokenizer.from_bytes(convert_tokenizer(tmp_path, CONFIG)).special_id("<|expand|>") == 440
    assert read_checkpoint_config(tmp_path).expand_token_id == 440
    edit(tmp_path / "tokenizer.json", lambda raw: raw["added_tokens"].append({"id": 440, "content": "<|other|>"}))
    with pytest.raises(InvalidTokenizer, match="disagree about added token 440"):
        convert_tokenizer(tmp_path, CONFIG)


def test_added_tokens_decoder_is_believed_before_a_stale_tokenizer_json(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    expected = convert_tokenizer(tmp_path, CONFIG)
    (tmp_path / "tokenizer.json").write_text(
        json.dumps({"added_tokens": [{"id": 420, "content": "<tool_response>"}]}), "utf-8"
    )
    assert convert_tokenizer(tmp_path, CONFIG) == expected


def test_gaps_between_added_ids_are_kept(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    edit(
        tmp_path / "tokenizer_config.json",
        lambda raw: raw["added_tokens_decoder"].update({"440": {"content": "<|expand|>"}}),
    )
    ours = Tokenizer.from_bytes(convert_tokenizer(tmp_path, CONFIG))
    assert ours.special_id("<|expand|>") == 440
    assert ours.vocab_size == 441
    assert 440 not in ours.encode("<|expand|>")


def test_merges_with_windows_line_ends(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    expected = convert_tokenizer(tmp_path, CONFIG)
    merges = (tmp_path / "merges.txt").read_bytes()
    (tmp_path / "merges.txt").write_bytes(merges.replace(b"\n", b"\r\n"))
    assert convert_tokenizer(tmp_path, CONFIG) == expected


# --- what is refused -------------------------------------------------------------------------------------------------

FIRST_MERGE = "".join(base_vocabulary()[1][0])
BROKEN: dict[str, tuple[str, Callable[[dict[str, Any]], object], str]] = {
    "byte_missing": ("vocab.json", lambda raw: raw.pop("!"), "256 bytes"),
    "merged_token_missing": ("vocab.json", lambda raw: raw.pop(FIRST_MERGE), "uses a token that the vocabulary lacks"),
    "same_id": ("vocab.json", lambda raw: raw.update({"!": 1}), "same id"),
    "id_too_large": ("vocab.json", lambda raw: raw.update({"zzz": 448}), "beyond the vocab_size"),
    "id_is_text": ("vocab.json", lambda raw: raw.update({"!": "0"}), "not a table"),
    "negative_id": ("vocab.json", lambda raw: raw.update({"zzz": -1}), "vocabulary"),
    "surrogate": ("vocab.json", lambda raw: raw.update({"\ud800": 440}), "surrogate"),
    "no_mask": ("tokenizer_config.json", lambda raw: raw["added_tokens_decoder"].pop("420"), "mask_token_id 420"),
    "no_end": ("tokenizer_config.json", lambda raw: raw["added_tokens_decoder"].pop("416"), "eos_token_id 416"),
    "other_content": (
        "tokenizer_config.json",
        lambda raw: raw["added_tokens_decoder"].update({"417": {"content": "<|mask|>"}}),
        "disagree",
    ),
    "id_not_a_number": (
        "tokenizer_config.json",
        lambda raw: raw["added_tokens_decoder"].update({"x": "y"}),
        "has the id",
    ),
    "no_content": ("tokenizer_config.json", lambda raw: raw["added_tokens_decoder"].update({"421": {}}), "no content"),
    "decoder_is_a_list": (
        "tokenizer_config.json",
        lambda raw: raw.update({"added_tokens_decoder": []}),
        "not an object",
    ),
}


@pytest.mark.parametrize(("file", "change", "named"), BROKEN.values(), ids=BROKEN)
def test_broken_vocabulary_is_refused(
    tmp_path: Path, file: str, change: Callable[[dict[str, Any]], object], named: str
) -> None:
    write_checkpoint(tmp_path)
    edit(tmp_path / file, change)
    with pytest.raises(InvalidTokenizer, match=named) as caught:
        convert_tokenizer(tmp_path, CONFIG)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("line", ["a", "a b c", " b", "\ud83d", "Ġt Ġt\nĠt Ġt", "zq xq"])
def test_broken_merges_are_refused(tmp_path: Path, line: str) -> None:
    write_checkpoint(tmp_path)
    with (tmp_path / "merges.txt").open("ab") as file:
        file.write(line.encode("utf-8", "surrogatepass") + b"\n")
    with pytest.raises((InvalidTokenizer, UnreadableFile), match="merge"):
        convert_tokenizer(tmp_path, CONFIG)


def test_ids_must_fit_the_network(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    with pytest.raises(InvalidTokenizer, match="beyond the vocab_size"):
        convert_tokenizer(tmp_path, replace(CONFIG, vocab_size=420, mask_token_id=419))
    with pytest.raises(InvalidTokenizer, match="pad_token_id 7"):
        convert_tokenizer(tmp_path, replace(CONFIG, pad_token_id=7))


def test_absent_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidTokenizer, match=r"neither vocab\.json"):
        convert_tokenizer(tmp_path, CONFIG)
    write_checkpoint(tmp_path)
    (tmp_path / "merges.txt").unlink()
    with pytest.raises(InvalidTokenizer, match=r"merges\.txt"):
        convert_tokenizer(tmp_path, CONFIG)


@pytest.mark.parametrize("name", ["vocab.json", "tokenizer_config.json", "special_tokens_map.json", "tokenizer.json"])
@pytest.mark.parametrize("data", [b"", b"[]", b'{"a": 1, "a": 2}', b"\xff", b'{"a": NaN}'])
def test_damaged_files_are_named(tmp_path: Path, name: str, data: bytes) -> None:
    write_checkpoint(tmp_path)
    if name == "tokenizer.json":
        (tmp_path / "vocab.json").unlink()
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UnreadableFile, match=name.replace(".", r"\.")):
        convert_tokenizer(tmp_path, CONFIG)


def _splits(raw: dict[str, Any]) -> dict[str, Any]:
    split: dict[str, Any] = raw["pre_tokenizer"]["pretokenizers"][0]
    return split


HOSTILE: dict[str, Callable[[dict[str, Any]], object]] = {
    "panicking_pattern": lambda raw: _splits(raw).update(pattern={"Regex": "(?<name>a)|(?<=(?:\\p{L}|))*+"}),
    "slow_pattern": lambda raw: _splits(raw).update(pattern={"Regex": r"(\w+\s?)*$"}),
    "other_behavior": lambda raw: _splits(raw).update(behavior="Removed"),
    "no_normalizer": lambda raw: raw.update(normalizer=None),
    "replacing_normalizer": lambda raw: raw.update(
        normalizer={"type": "Replace", "pattern": {"Regex": "(?="}, "content": ""}
    ),
    "other_decoder": lambda raw: raw.update(decoder={"type": "WordPiece", "prefix": "##", "cleanup": True}),
    "word_level": lambda raw: raw["model"].update(type="WordLevel"),
    "dropout": lambda raw: raw["model"].update(dropout=0.5),
    "ignore_merges": lambda raw: raw["model"].update(ignore_merges=True),
    "no_model": lambda raw: raw.pop("model"),
    "vocab_is_a_list": lambda raw: raw["model"].update(vocab=[["a", 0]]),
    "merges_of_numbers": lambda raw: raw["model"].update(merges=[[1, 2]]),
    "merges_is_text": lambda raw: raw["model"].update(merges="a b"),
    "added_without_id": lambda raw: raw["added_tokens"].append({"content": "<|new|>"}),
    "added_number": lambda raw: raw["added_tokens"].append(7),
    "added_huge_id": lambda raw: raw["added_tokens"].append({"content": "<|new|>", "id": 1 << 70}),
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE)
def test_tokenizer_json_of_another_kind_is_refused(tmp_path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    write_checkpoint(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes(convert_tokenizer(tmp_path, CONFIG))
    (tmp_path / "vocab.json").unlink()
    assert convert_tokenizer(tmp_path, CONFIG)
    edit(tmp_path / "tokenizer.json", change)
    with pytest.raises(InvalidTokenizer) as caught:
        convert_tokenizer(tmp_path, CONFIG)
    assert isinstance(caught.value, DreamEdgeError)
