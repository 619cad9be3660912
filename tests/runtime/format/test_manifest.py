"""manifest.json: a round trip, and everything a stranger could put there."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dream_edge_runtime.chat_format import DREAM_CHAT, ChatFormat
from dream_edge_runtime.errors import ArtifactError, ArtifactNotFound, CorruptArtifact, UnsupportedArtifact
from dream_edge_runtime.format.manifest import FileEntry, Manifest
from dream_edge_runtime.format.recipe import SCHEMES, Recipe
from support.artifacts import canonical
from support.networks import small_config
from support.systems import make_pipe

MANIFEST = Manifest(
    producer="dream-edge 0.1.0",
    files=tuple(FileEntry(name, 5, "0" * 64) for name in ("model_cpu.onnx", "tokenizer.json", "weights-00001.bin")),
    graphs={"cpu": "model_cpu.onnx"},
    config=small_config(),
    recipe=Recipe.for_scheme("int4"),
    generation={"alg": "origin", "temperature": 0.2},
    provenance={"dtype": "bfloat16"},
    license="apache-2.0",
)
VALID = MANIFEST.to_json()


def changed(change: Callable[[dict[str, Any]], object]) -> bytes:
    document = json.loads(VALID)
    change(document)
    return canonical(document)


def setting(*keys: str | int, to: object) -> bytes:
    """The valid manifest with one value replaced."""

    def change(document: Any) -> None:
        for key in keys[:-1]:
            document = document[key]
        document[keys[-1]] = to

    return changed(change)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_what_is_written_is_read(scheme: str) -> None:
    manifest = replace(MANIFEST, recipe=Recipe.for_scheme(scheme, layers=2), license=None)
    assert Manifest.from_json(manifest.to_json()) == manifest


def test_json_is_canonical() -> None:
    shuffled = replace(MANIFEST, files=MANIFEST.files[::-1], generation=dict([*MANIFEST.generation.items()][::-1]))
    assert shuffled.to_json() == VALID
    assert VALID.endswith(b"}\n")
    assert VALID.count(b"\n") == 1
    assert list(json.loads(VALID)) == sorted(json.loads(VALID))


BAD: dict[str, bytes] = {
    "empty": b"",
    "truncated": VALID[: len(VALID) // 2],
    "not_an_object": b"[]",
    "not_utf8": VALID.replace(b"apache", b"\xff\xfe\xfd"),
    "deep": b"[" * 200_000,
    "too_large": VALID + b" " * (1 << 20),
    "nan": VALID.replace(b'"temperature":0.2', b'"temperature":NaN'),
    "infinity": VALID.replace(b'"temperature":0.2', b'"temperature":-Infinity'),
    "huge_integer": VALID.replace(b'"temperature":0.2', b'"temperature":' + b"9" * 5000),
    "duplicate_key": VALID.replace(b'"license"', b'"license":null,"license"'),
    "duplicate_inner_key": VALID.replace(b'"vocab_size"', b'"vocab_size":1,"vocab_size"'),
    "spaces": VALID.replace(b",", b", "),
    "no_line_end": VALID[:-1],
    "byte_order_mark": b"\xef\xbb\xbf" + VALID,
    "utf16": VALID.decode().encode("utf-16"),
    "keys_not_sorted": b'{"schema":"1.3",' + VALID.replace(b',"schema":"1.3"', b"").removeprefix(b"{"),
    "escaped_letter": VALID.replace(b"apache", b"\\u0061pache"),
    "number_written_otherwise": VALID.replace(b'"temperature":0.2', b'"temperature":0.20'),
    "exponent": VALID.replace(b'"temperature":0.2', b'"temperature":1e999'),
    "integer_of_a_million_digits": VALID.replace(b'"temperature":0.2', b'"temperature":' + b"9" * 1_000_000),
    "integer_beyond_64_bits": setting("generation", "temperature", to=1 << 63),
    "lone_surrogate": VALID.replace(b"apache", b"\\ud800"),
    "deep_provenance": setting("provenance", "dtype", to=[[[[[[[[[1]]]]]]]]]),
    "unknown_key": setting("code", to="import os"),
    "missing_key": changed(lambda document: document.pop("recipe")),
    "schema_is_a_number": setting("schema", to=1.0),
    "schema_is_no_version": setting("schema", to="1.0.0-rc1"),
    "producer_is_a_number": setting("producer", to=3),
    "producer_is_long": setting("producer", to="x" * 201),
    "license_moves_the_cursor": setting("license", to="\x1b[2J"),
    "license_is_a_list": setting("license", to=[]),
    "files_is_an_object": setting("files", to={}),
    "file_is_a_string": setting("files", 0, to="model_cpu.onnx"),
    "file_has_more": setting("files", 0, "mode", to="executable"),
    "file_twice": changed(lambda document: document["files"].append(document["files"][0])),
    "parent_directory": setting("files", 2, "name", to=".."),
    "outside": setting("files", 2, "name", to="../weights-00001.bin"),
    "absolute": setting("files", 2, "name", to="/etc/passwd"),
    "windows_path": setting("files", 2, "name", to="C:\\weights.bin"),
    "name_with_nul": setting("files", 2, "name", to="weights\0.bin"),
    "name_with_line_end": setting("files", 2, "name", to="weights.bin\n"),
    "hidden_name": setting("files", 2, "name", to=".bashrc"),
    "device_of_windows": setting("files", 2, "name", to="CON"),
    "device_of_windows_with_ending": setting("files", 2, "name", to="aux.bin"),
    "name_ends_in_a_dot": setting("files", 2, "name", to="weights-00001.bin."),
    "name_is_long": setting("files", 2, "name", to="w" * 129),
    "name_differs_in_case": setting("files", 1, "name", to="MODEL_CPU.onnx"),
    "no_files": setting("files", to=[]),
    "many_files": setting("files", to=[{"name": f"f{index}", "sha256": "0" * 64, "size": 0} for index in range(5000)]),
    "the_manifest_itself": setting("files", 2, "name", to="manifest.json"),
    "size_is_negative": setting("files", 2, "size", to=-1),
    "size_is_huge": setting("files", 2, "size", to=10**30),
    "size_is_true": setting("files", 2, "size", to=True),
    "size_is_a_float": setting("files", 2, "size", to=5.0),
    "digest_is_short": setting("files", 2, "sha256", to="00"),
    "digest_is_upper_case": setting("files", 2, "sha256", to="A" * 64),
    "graph_is_not_listed": setting("graphs", "cpu", to="other.onnx"),
    "graph_is_an_object": setting("graphs", "cpu", to={}),
    "graph_for_an_unknown_target": setting("graphs", to={"tpu": "model_cpu.onnx"}),
    "graph_for_another_target": setting("graphs", to={"cuda": "model_cpu.onnx"}),
    "no_graph": setting("graphs", to={}),
    "unknown_field_of_model": setting("model", "rope_scaling", to=None),
    "vocabulary_is_huge": setting("model", "vocab_size", to=10**12),
    "layers_are_huge": setting("model", "num_hidden_layers", to=10**9),
    "heads_do_not_divide": setting("model", "num_attention_heads", to=5),
    "epsilon_overflows": setting("model", "rms_norm_eps", to=0).replace(b'"rms_norm_eps":0', b'"rms_norm_eps":1e999'),
    "model_is_null": setting("model", to=None),
    "unknown_scheme": setting("recipe", "scheme", to="int2"),
    "unknown_field_of_recipe": setting("recipe", "smooth", to=True),
    "format_is_a_string": setting("recipe", "targets", "cpu", "body", to="int4"),
    "bits_is_three": setting("recipe", "targets", "cpu", "body", "bits", to=3),
    "bits_is_a_float": setting("recipe", "targets", "cpu", "body", "bits", to=4.0),
    "block_size_is_zero": setting("recipe", "targets", "cpu", "body", "block_size", to=0),
    "block_size_is_a_float": setting("recipe", "targets", "cpu", "body", "block_size", to=128.0),
    "symmetric_is_a_string": setting("recipe", "targets", "cpu", "body", "symmetric", to="no"),
    "kind_is_a_list": setting("recipe", "targets", "cpu", "body", "kind", to=["block"]),
    "chat_format_is_missing": changed(lambda document: document.pop("chat_format")),
    "chat_format_is_a_template": setting("chat_format", to="{{ messages }}"),
    "chat_format_is_a_list": setting("chat_format", to=[]),
    "chat_format_has_more": setting("chat_format", "template", to="{{ messages }}"),
    "system_is_a_number": setting("chat_format", "system", to=7),
    "system_is_long": setting("chat_format", "system", to="a" * (1 << 15)),
    "thinking_is_true": setting("chat_format", "thinking", to=True),
    "thinking_is_a_list": setting("chat_format", "thinking", to=["on"]),
    "thinking_is_unknown": setting("chat_format", "thinking", to="deep\n" * 99),
    "rounding_is_a_number": setting("recipe", "rounding", to=7),
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD)
def test_bad_manifest_is_refused_in_one_line(data: bytes) -> None:
    with pytest.raises(CorruptArtifact) as caught:
        Manifest.from_json(data, "somewhere/manifest.json")
    message = str(caught.value)
    assert "somewhere/manifest.json" in message
    assert len(message) < 600
    assert message.isprintable()


@pytest.mark.parametrize("chat_format", [None, ChatFormat(system=None, thinking="on"), ChatFormat(system="Be kind.\n")])
def test_chat_format_is_read_as_it_is_written(chat_format: ChatFormat | None) -> None:
    manifest = replace(MANIFEST, chat_format=chat_format)
    assert Manifest.from_json(manifest.to_json()) == manifest


def test_before_1_3_a_tied_head_was_stored_by_itself() -> None:
    def change(document: dict[str, Any]) -> None:
        document["schema"] = "1.2"
        document["model"]["tie_word_embeddings"] = True
        del document["chat_format"]
        for field in ("head_dim", "attention_bias", "qk_norm", "causal_block"):
            del document["model"][field]

    older = Manifest.from_json(changed(change))
    assert older.chat_format == DREAM_CHAT
    config = older.config
    assert not config.tie_word_embeddings
    assert config.attention_bias
    with pytest.raises(CorruptArtifact, match="store both in one format"):
        Manifest.from_json(setting("model", "tie_word_embeddings", to=True))


@pytest.mark.parametrize("version", ["2.0", "0.9", "1.4", "9999.0"])
def test_other_versions_name_who_wrote_them(version: str) -> None:
    """An artifact of the future may have keys that this version does not know."""
    data = changed(lambda document: document.update(schema=version, producer="dream-edge 7.3", novelty=1))
    with pytest.raises(UnsupportedArtifact, match=r"dream-edge 7\.3"):
        Manifest.from_json(data)


def test_read_names_the_directory_that_holds_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", "utf-8")
    for path in (tmp_path, tmp_path / "absent", tmp_path / "file", tmp_path / "nul\0"):
        with pytest.raises(ArtifactNotFound):
            Manifest.read(path)


def test_manifest_that_is_no_file_is_refused_without_waiting(tmp_path: Path) -> None:
    (tmp_path / "directory" / "manifest.json").mkdir(parents=True)
    (tmp_path / "pipe").mkdir()
    make_pipe(tmp_path / "pipe" / "manifest.json")
    for name in ("directory", "pipe"):
        with pytest.raises(ArtifactError):
            Manifest.read(tmp_path / name)


# --- mutations -------------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def read_or_refuse(data: bytes) -> None:
    try:
        found = Manifest.from_json(data)
    except ArtifactError:
        return
    assert Manifest.from_json(found.to_json()) == found


@settings(max_examples=300, deadline=None)
@given(position=st.integers(0, len(VALID)), removed=st.integers(0, 40), inserted=st.binary(max_size=12))
@example(position=0, removed=len(VALID), inserted=b"\xef\xbb\xbf{}")
@example(position=0, removed=len(VALID), inserted=b'{"schema":"1.0"}')
def test_mutated_bytes_are_read_or_refused(position: int, removed: int, inserted: bytes) -> None:
    read_or_refuse(VALID[:position] + inserted + VALID[position + removed :])


def paths(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The way to every value of a document."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] * bool(path) + [found for key, inner in entries for found in paths(inner, (*path, key))]


@settings(max_examples=300, deadline=None)
@given(path=st.sampled_from(paths(json.loads(VALID))), value=JSON)
def test_any_value_anywhere_is_read_or_refused(path: tuple[str | int, ...], value: object) -> None:
    read_or_refuse(setting(*path, to=value))
