"""Checkpoints: what is accepted, what is refused, and that the refusal says everything at once."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from dream_edge_export.checkpoint.checkpoint import Checkpoint
from dream_edge_export.checkpoint.tensor_file import TensorFile
from dream_edge_export.errors import CheckpointChanged, NonFiniteWeights, PickleCheckpoint, TensorProblems, UntiedHead
from dream_edge_export.export import export
from dream_edge_runtime.errors import CheckpointNotFound, DreamEdgeError, InvalidConfig, UnreadableFile
from dream_edge_runtime.format.model_config import ModelConfig
from dream_edge_runtime.format.recipe import Recipe
from dream_edge_runtime.format.tensors import tensor_shapes
from support.checkpoints import random_weights, write_checkpoint, write_weights
from support.systems import make_link

Q_PROJ = "model.layers.1.self_attn.q_proj.weight"
INDEX = "model.safetensors.index.json"


def rewrite(
    directory: Path, config: ModelConfig, change: Callable[[dict[str, torch.Tensor]], object], **how: Any
) -> None:
    """Write the weights once more, after `change` did something to them."""
    weights = random_weights(config)
    change(weights)
    write_weights(directory, weights, **how)


@pytest.mark.parametrize("shards", [1, 2, 5])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_every_tensor_is_read_as_it_was_written(tmp_path: Path, dtype: torch.dtype, shards: int) -> None:
    config = write_checkpoint(tmp_path, dtype=dtype, shards=shards, seed=3)
    checkpoint = Checkpoint.open(tmp_path)
    written = random_weights(config, dtype=dtype, seed=3)
    assert checkpoint.config == config
    assert checkpoint.dtype == dtype
    assert len(checkpoint.files) == shards
    assert checkpoint.names == tuple(written)
    for name, tensor in written.items():
        assert checkpoint.shape(name) == tensor.shape
        assert checkpoint.tensor(name).dtype == dtype
        assert torch.equal(checkpoint.tensor(name), tensor)
        assert torch.equal(checkpoint.rows(name, 3, 17), tensor[3:17])


@pytest.mark.parametrize("tied", [False, True])
def test_table_is_that_of_the_written_checkpoint(tmp_path: Path, tied: bool) -> None:
    config = write_checkpoint(tmp_path, num_hidden_layers=3, num_key_value_heads=1, tie_word_embeddings=tied)
    weights = random_weights(config)
    if tied:
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    assert [*tensor_shapes(config).items()] == [(name, tuple(tensor.shape)) for name, tensor in weights.items()]


def test_tied_lm_head_is_the_embedding(tmp_path: Path) -> None:
    config = write_checkpoint(tmp_path, tie_word_embeddings=True)
    for change in (
        lambda weights: weights.pop("lm_head.weight", None),
        lambda weights: weights.update({"lm_head.weight": weights["model.embed_tokens.weight"].clone()}),
        lambda weights: weights.update({"lm_head.weight": weights["model.embed_tokens.weight"].double().float()}),
    ):
        rewrite(tmp_path, config, change)
        checkpoint = Checkpoint.open(tmp_path)
        assert "lm_head.weight" not in checkpoint.names
        assert checkpoint.shape("lm_head.weight") == (448, 64)
        assert torch.equal(checkpoint.tensor("lm_head.weight"), checkpoint.tensor("model.embed_tokens.weight"))
        assert torch.equal(checkpoint.rows("lm_head.weight", 1, 3), checkpoint.rows("model.embed_tokens.weight", 1, 3))


@pytest.mark.parametrize("row", [0, 447, 300])
@pytest.mark.parametrize("shards", [1, 2])
def test_tied_lm_head_that_is_stored_and_differs_is_refused(tmp_path: Path, row: int, shards: int) -> None:
    config = write_checkpoint(tmp_path, tie_word_embeddings=True)

    def change(weights: dict[str, torch.Tensor]) -> None:
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
        weights["lm_head.weight"][row, 5] += 1

    (tmp_path / "model.safetensors").unlink()
    rewrite(tmp_path, config, change, shards=shards)
    with pytest.raises(UntiedHead, match="set tie_word_embeddings to false"):
        Checkpoint.open(tmp_path).tensor("lm_head.weight")
    with pytest.raises(UntiedHead):
        Checkpoint.open(tmp_path).rows("model.embed_tokens.weight", row, row + 1)
    with pytest.raises(UntiedHead):
        export(Checkpoint.open(tmp_path), tmp_path.parent / "out", Recipe.for_scheme("int8"))
    (tmp_path / "config.json").write_text(
        (tmp_path / "config.json")
        .read_text("utf-8")
        .replace('"tie_word_embeddings": true', '"tie_word_embeddings": false'),
        "utf-8",
    )
    assert Checkpoint.open(tmp_path).tensor("lm_head.weight")[row, 5] != 0


def test_untied_checkpoint_needs_its_lm_head(tmp_path: Path) -> None:
    config = write_checkpoint(tmp_path)
    rewrite(tmp_path, config, lambda weights: weights.pop("lm_head.weight"))
    with pytest.raises(TensorProblems) as caught:
        Checkpoint.open(tmp_path)
    assert caught.value.missing == ("lm_head.weight",)


@pytest.mark.parametrize("shards", [1, 3])
def test_all_problems_are_named_at_once(tmp_path: Path, shards: int) -> None:
    config = write_checkpoint(tmp_path, shards=shards)

    def change(weights: dict[str, torch.Tensor]) -> None:
        del weights["model.norm.weight"], weights["model.layers.0.mlp.up_proj.weight"]
        weights["model.layers.0.self_attn.o_proj.bias"] = torch.zeros(64)
        weights["evil\n\x1b[2J"] = torch.zeros(1)
        weights[Q_PROJ] = torch.zeros(64, 63)
        weights["model.layers.1.self_attn.k_proj.weight"] = torch.zeros(64, 32)
        weights["lm_head.weight"] = weights["lm_head.weight"].double()
        weights["model.layers.1.input_layernorm.weight"] = torch.ones(64, dtype=torch.int8)

    rewrite(tmp_path, config, change, shards=shards)
    with pytest.raises(TensorProblems) as caught:
        Checkpoint.open(tmp_path)
    error, message = caught.value, str(caught.value)
    assert set(error.missing) == {"model.norm.weight", "model.layers.0.mlp.up_proj.weight"}
    assert set(error.unexpected) == {"model.layers.0.self_attn.o_proj.bias", r"'evil\n\x1b[2J'"}
    assert set(error.misshaped) == {Q_PROJ, "model.layers.1.self_attn.k_proj.weight"}
    assert set(error.mistyped) == {"lm_head.weight", "model.layers.1.input_layernorm.weight"}
    assert all(name in message for name in [*error.missing, *error.unexpected, *error.misshaped, *error.mistyped])
    assert "[64, 63], expected [64, 64]" in message
    assert message.isprintable()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_weights_that_are_not_finite_are_refused_by_name(tmp_path: Path, dtype: torch.dtype, value: float) -> None:
    config = write_checkpoint(tmp_path, dtype=dtype)
    weights = random_weights(config, dtype=dtype)
    weights[Q_PROJ][5, 7] = value
    write_weights(tmp_path, weights)
    checkpoint = Checkpoint.open(tmp_path)
    with pytest.raises(NonFiniteWeights, match=Q_PROJ.replace(".", r"\.")):
        checkpoint.tensor(Q_PROJ)
    with pytest.raises(NonFiniteWeights):
        checkpoint.rows(Q_PROJ, 5, 6)
    assert checkpoint.rows(Q_PROJ, 6, 8).isfinite().all()
    assert checkpoint.tensor("model.norm.weight").isfinite().all()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "consolidated.00.pth", "model.pt", "weights.pkl"])
def test_pickled_weights_are_refused_with_the_remedy(tmp_path: Path, name: str) -> None:
    write_checkpoint(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / name)
    for path in (tmp_path, tmp_path / name):
        with pytest.raises(PickleCheckpoint, match="safetensors"):
            Checkpoint.open(path)


def test_pickles_beside_safetensors_are_never_opened(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    assert Checkpoint.open(tmp_path).files == (tmp_path / "model.safetensors",)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFound, match=r"config\.json"):
        Checkpoint.open(tmp_path / "nowhere")
    write_checkpoint(tmp_path, shards=3)
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(CheckpointNotFound, match="model-00002-of-00003"):
        Checkpoint.open(tmp_path)
    (tmp_path / INDEX).unlink()
    with pytest.raises(CheckpointNotFound, match=r"model\.safetensors"):
        Checkpoint.open(tmp_path)


def header(entries: dict[str, Any], data: int = 100) -> bytes:
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + bytes(data)


def entry(shape: list[int], start: int, stop: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


DAMAGED = {
    "empty": b"",
    "pickle": b"\x80\x04\x95abc",
    "header_of_an_exabyte": struct.pack("<Q", 1 << 60),
    "not_json": struct.pack("<Q", 4) + b"nope",
    "deep_json": struct.pack("<Q", 90000) + b'{"a":' + b"[" * 89995,
    "overlapping": header({"a": entry([25], 0, 100), "b": entry([5], 20, 40)}),
    "hole": header({"a": entry([5], 80, 100)}),
    "past_the_end": header({"a": entry([50], 0, 200)}),
    "wrong_size": header({"a": entry([24], 0, 100)}),
    "overflow": header({"a": entry([1 << 40, 1 << 40], 0, 100)}),
    "unknown_type": header({"a": entry([25], 0, 100, "Q4")}),
}


@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED)
def test_damaged_safetensors_are_named(tmp_path: Path, data: bytes) -> None:
    write_checkpoint(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(data)
    with pytest.raises(UnreadableFile, match=r"model\.safetensors"):
        Checkpoint.open(tmp_path)


@pytest.mark.parametrize("kept", [0, 7, 500, -1])
def test_truncated_shard_is_named(tmp_path: Path, kept: int) -> None:
    write_checkpoint(tmp_path, shards=2)
    shard = tmp_path / "model-00002-of-00002.safetensors"
    shard.write_bytes(shard.read_bytes()[:kept])
    with pytest.raises(UnreadableFile, match="model-00002-of-00002"):
        Checkpoint.open(tmp_path)


def test_files_of_a_cache_may_be_links(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "blobs", shards=2)
    snapshot = tmp_path / "snäp shot"
    snapshot.mkdir()
    for file in (tmp_path / "blobs").iterdir():
        try:
            make_link(snapshot / file.name, file)
        except OSError:
            pytest.skip("links need a privilege here")
    assert Checkpoint.open(snapshot).tensor(Q_PROJ).shape == (64, 64)


def write_over(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.seek(-4, os.SEEK_END)
        opened.write(bytes(4))


def write_anew(file: Path) -> None:
    data = file.read_bytes()
    file.rename(file.with_suffix(".old"))
    file.write_bytes(data)


def cut_off(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


@pytest.mark.parametrize("change", [write_over, write_anew, cut_off, Path.unlink])
def test_file_that_changes_after_the_checkpoint_was_opened_is_named(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    write_checkpoint(tmp_path, shards=2)
    checkpoint = Checkpoint.open(tmp_path)
    second = checkpoint.files[1]
    change(second)
    assert checkpoint.rows("model.embed_tokens.weight", 0, 5).shape == (5, 64)
    for _ in range(2):
        with pytest.raises(CheckpointChanged, match=second.name):
            checkpoint.rows("lm_head.weight", 0, 5)


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="looks at the mappings of the process")
def test_nothing_of_a_checkpoint_is_mapped(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    tensor = Checkpoint.open(tmp_path).tensor("lm_head.weight")
    assert tensor.shape == (448, 64)
    assert "model.safetensors" not in Path("/proc/self/smaps").read_text("utf-8")


HEADERS = st.dictionaries(
    st.sampled_from(["a", "b", "c", "__metadata__"]),
    st.one_of(
        st.builds(
            lambda shape, start, stop, dtype: {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]},
            st.lists(st.integers(0, 3), max_size=2),
            st.sampled_from([0, 2, 4, 8, 12]),
            st.sampled_from([0, 2, 4, 8, 12, 16]),
            st.sampled_from(["F32", "BF16", "U8", "I64", "BOOL", "Q4"]),
        ),
        st.just({"format": "pt"}),
        st.none(),
    ),
)


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(table=HEADERS, size=st.sampled_from([0, 2, 4, 8, 12, 16]))
def test_no_header_is_read_that_the_library_refuses(tmp_path: Path, table: dict[str, Any], size: int) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(header(table, size))
    try:
        read = TensorFile.open(file)
    except UnreadableFile:
        return
    with safe_open(file, framework="pt") as tensors:
        assert set(tensors.keys()) == set(read.entries)
        for name, entry in read.entries.items():
            assert tuple(tensors.get_slice(name).get_shape()) == entry.shape


def test_generation_defaults_are_those_of_the_file(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    assert Checkpoint.open(tmp_path).generation_defaults["steps"] == 512
    (tmp_path / "generation_config.json").unlink()
    assert Checkpoint.open(tmp_path).generation_defaults == {}
    (tmp_path / "generation_config.json").write_text("[1]", "utf-8")
    with pytest.raises(UnreadableFile, match="generation_config"):
        Checkpoint.open(tmp_path)


def test_weights_of_another_configuration_are_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    raw = json.loads((tmp_path / "config.json").read_text("utf-8"))
    (tmp_path / "config.json").write_text(
        json.dumps({**raw, "num_hidden_layers": 4, "intermediate_size": 256}), "utf-8"
    )
    with pytest.raises(TensorProblems) as caught:
        Checkpoint.open(tmp_path)
    assert len(caught.value.missing) == 2 * 12
    assert len(caught.value.misshaped) == 2 * 3
    (tmp_path / "config.json").write_text(json.dumps({**raw, "model_type": "qwen2"}), "utf-8")
    with pytest.raises(InvalidConfig, match="model_type"):
        Checkpoint.open(tmp_path)


def test_rows_outside_the_tensor_and_unknown_names_are_errors(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    checkpoint = Checkpoint.open(tmp_path)
    for start, stop in ((-1, 3), (0, 65), (5, 4)):
        with pytest.raises(IndexError):
            checkpoint.rows(Q_PROJ, start, stop)
    assert checkpoint.rows(Q_PROJ, 9, 9).shape == (0, 64)
    with pytest.raises(KeyError):
        checkpoint.tensor("model.layers.0.self_attn.o_proj.bias")


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(data=st.data())
def test_any_damage_ends_in_our_own_error(tmp_path: Path, data: st.DataObject) -> None:
    directory = tmp_path / "checkpoint"
    write_checkpoint(
        directory, shards=2, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    names = ["config.json", "generation_config.json", INDEX, "model-00001-of-00002.safetensors"]
    file = directory / data.draw(st.sampled_from(names))
    content = bytearray(file.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, min(len(content), 4000) - 1))
        content[position : position + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    file.write_bytes(bytes(content))
    try:
        checkpoint = Checkpoint.open(directory)
        for name in checkpoint.names:
            checkpoint.tensor(name)
    except DreamEdgeError:
        pass
