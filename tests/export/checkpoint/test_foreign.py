"""Checkpoints as other programs leave them: what only adds to one is read, other forms are told apart."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import dream_edge
from dream_edge_export.checkpoint.checkpoint import Checkpoint
from dream_edge_export.errors import CheckpointChanged, PickleCheckpoint, TensorProblems, UnsupportedCheckpoint
from dream_edge_export.export import export
from dream_edge_runtime.errors import CheckpointNotFound, UnreadableFile
from dream_edge_runtime.format.recipe import Recipe
from support.checkpoints import random_weights, write_checkpoint, write_weights

from .test_packed import UP, write_packed

INDEX = "model.safetensors.index.json"
EMBEDDING, HEAD, QUERY = "model.embed_tokens.weight", "lm_head.weight", "model.layers.0.self_attn.q_proj"

Weights = dict[str, Tensor]


def rewrite(directory: Path, change: Callable[[Weights], Weights], *, shards: int = 1, **geometry: Any) -> None:
    """A checkpoint in `directory` whose tensors are changed."""
    config = write_checkpoint(directory, **geometry)
    for file in directory.glob("model*"):
        file.unlink()
    write_weights(directory, change(random_weights(config)), shards=shards)


def change_index(directory: Path, change: Callable[[dict[str, Any]], object]) -> None:
    index = json.loads((directory / INDEX).read_text("utf-8"))
    change(index["weight_map"])
    (directory / INDEX).write_text(json.dumps(index), "utf-8")


# --- what adds nothing -----------------------------------------------------------------------------------------------

CONSTANTS = {
    "model.rotary_emb.inv_freq": torch.ones(8),
    "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8),
    "model.layers.1.self_attn.rotary_emb.cos_cached": torch.ones(1, 4),
}


@pytest.mark.parametrize("shards", [1, 2])
def test_constants_of_the_rotary_embedding_are_not_needed(tmp_path: Path, shards: int) -> None:
    write_checkpoint(tmp_path / "plain")
    rewrite(tmp_path / "more", lambda weights: weights | CONSTANTS, shards=shards)
    plain, more = (
        export(Checkpoint.open(tmp_path / name), tmp_path / f"{name}.out", Recipe.for_scheme("int8")).path
        for name in ("plain", "more")
    )
    assert (plain / "weights-00001.bin").read_bytes() == (more / "weights-00001.bin").read_bytes()


@pytest.mark.parametrize("name", CONSTANTS)
def test_index_may_name_or_leave_out_what_is_not_needed(tmp_path: Path, name: str) -> None:
    write_checkpoint(tmp_path / "named", shards=2)
    change_index(tmp_path / "named", lambda named: named.update({name: "model-00001-of-00002.safetensors"}))
    assert name not in Checkpoint.open(tmp_path / "named").names
    rewrite(tmp_path / "left", lambda weights: weights | CONSTANTS, shards=2)
    change_index(tmp_path / "left", lambda named: named.pop(name))
    assert Checkpoint.open(tmp_path / "left")


def test_tied_head_that_only_the_index_names_is_the_embedding(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, shards=2, tie_word_embeddings=True)
    change_index(tmp_path, lambda named: named.update({HEAD: "model-00002-of-00002.safetensors"}))
    checkpoint = Checkpoint.open(tmp_path)
    assert torch.equal(checkpoint.tensor(HEAD), checkpoint.tensor(EMBEDDING))


def test_head_that_only_the_index_names_is_missed_where_it_is_not_tied(tmp_path: Path) -> None:
    rewrite(tmp_path, lambda weights: {name: each for name, each in weights.items() if name != HEAD}, shards=2)
    change_index(tmp_path, lambda named: named.update({HEAD: "model-00002-of-00002.safetensors"}))
    with pytest.raises(TensorProblems, match=HEAD):
        Checkpoint.open(tmp_path)


def test_files_of_the_training_beside_the_weights_are_not_read(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, shards=2)
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin", "optimizer.safetensors"):
        (tmp_path / name).write_bytes(b"\x80\x04")
    (tmp_path / "global_step500").mkdir()
    assert Checkpoint.open(tmp_path)
    for file in tmp_path.glob("model*"):
        file.unlink()
    with pytest.raises(CheckpointNotFound, match=r"model\.safetensors"):  # it does not call the optimizer weights
        Checkpoint.open(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(PickleCheckpoint, match="pytorch_model"):
        Checkpoint.open(tmp_path)


# --- other forms -----------------------------------------------------------------------------------------------------


def gptq(weights: Weights) -> Weights:
    del weights[f"{QUERY}.weight"]
    parts = {"qweight": torch.int32, "qzeros": torch.int32, "scales": torch.float16, "g_idx": torch.int32}
    return weights | {f"{QUERY}.{part}": torch.zeros(8, 8, dtype=dtype) for part, dtype in parts.items()}


def fp8(weights: Weights) -> Weights:
    return weights | {f"{QUERY}.weight": weights[f"{QUERY}.weight"].to(torch.float8_e4m3fn)}


def eight_bits(weights: Weights) -> Weights:
    matrix = weights[f"{QUERY}.weight"]
    return weights | {f"{QUERY}.weight": matrix.char(), f"{QUERY}.SCB": torch.ones(len(matrix))}


def unmerged(weights: Weights) -> Weights:
    base = {f"{QUERY}.base_layer.weight": weights.pop(f"{QUERY}.weight")}
    return weights | base | {f"{QUERY}.lora_A.default.weight": torch.ones(4, 64)}


def renamed(before: str, after: str) -> Callable[[Weights], Weights]:
    return lambda weights: {after + name.removeprefix(before): each for name, each in weights.items()}


FORMS: dict[str, tuple[Callable[[Weights], Weights], str]] = {
    "GPTQ": (gptq, r"quantized already \(GPTQ or AWQ\)\. Export the checkpoint that it was made from"),
    "fp8": (fp8, r"quantized already \('F8_E4M3'\)"),
    "fp8 with scales": (lambda weights: fp8(weights) | {f"{QUERY}.weight_scale_inv": torch.ones(1)}, "fp8"),
    "compressed-tensors": (lambda weights: weights | {f"{QUERY}.weight_packed": torch.ones(4)}, "compressed-tensors"),
    "bitsandbytes in 8 bits": (eight_bits, "bitsandbytes, and not as NF4"),
    "LoRA that is not merged": (unmerged, r"an adapter \(LoRA\).*merge_and_unload"),
    "wrapper": (renamed("", "_orig_mod."), "save_pretrained"),
    "base model": (renamed("model.", ""), "save_pretrained"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shards", [1, 2])
def test_other_forms_are_told_what_they_are(tmp_path: Path, form: str, shards: int) -> None:
    change, match = FORMS[form]
    rewrite(tmp_path, change, shards=shards)
    with pytest.raises(UnsupportedCheckpoint, match=match):
        Checkpoint.open(tmp_path)


def test_method_that_config_json_names_is_told(tmp_path: Path) -> None:
    rewrite(tmp_path, lambda weights: weights | {f"{QUERY}.codebook": torch.ones(4)})
    raw = json.loads((tmp_path / "config.json").read_text("utf-8"))
    (tmp_path / "config.json").write_text(json.dumps(raw | {"quantization_config": {"quant_method": "aqlm"}}), "utf-8")
    with pytest.raises(UnsupportedCheckpoint, match="aqlm"):
        Checkpoint.open(tmp_path)


def test_dequantized_weights_are_read_whatever_config_json_remembers(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    raw = json.loads((tmp_path / "config.json").read_text("utf-8"))
    (tmp_path / "config.json").write_text(json.dumps(raw | {"quantization_config": {"quant_method": "gptq"}}), "utf-8")
    assert Checkpoint.open(tmp_path)


@pytest.mark.parametrize("has_config", [False, True])
def test_adapter_is_told_what_it_is_an_adapter_of(tmp_path: Path, has_config: bool) -> None:
    if has_config:
        write_checkpoint(tmp_path)
        (tmp_path / "model.safetensors").unlink()
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "Dream-org/Dream-v0-Base-7B"}', "utf-8")
    save_file({"base_model.model.lora_A.weight": torch.ones(4, 4)}, tmp_path / "adapter_model.safetensors")
    (tmp_path / "training_args.bin").write_bytes(b"")
    with pytest.raises(UnsupportedCheckpoint, match=r"of 'Dream-org/Dream-v0-Base-7B'.*merge_and_unload"):
        dream_edge.export(tmp_path, tmp_path / "out", scheme="int8")


def test_adapter_beside_whole_weights_is_left_alone(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}", "utf-8")
    assert Checkpoint.open(tmp_path)


def test_gguf_is_told_what_it_is(tmp_path: Path) -> None:
    file = tmp_path / "dream-Q4_K_M.gguf"
    file.write_bytes(b"GGUF")
    for path in (file, tmp_path):
        with pytest.raises(UnsupportedCheckpoint, match=r"llama\.cpp"):
            Checkpoint.open(path)


def test_shards_that_the_index_names_and_are_not_there_are_all_named(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, shards=2)
    for file in tmp_path.glob("model-*"):
        file.unlink()
    with pytest.raises(CheckpointNotFound, match=r"model-00001-of-00002\.safetensors, model-00002-of-00002"):
        Checkpoint.open(tmp_path)


# --- files that change -----------------------------------------------------------------------------------------------


def test_packed_checkpoint_that_changes_while_it_is_opened_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_packed(tmp_path)
    from dream_edge_export.checkpoint.tensor_file import TensorFile

    read = TensorFile.read

    def touch(self: TensorFile, name: str, *rows: int) -> Tensor:
        if name.startswith(UP):
            with self.path.open("ab") as file:
                file.write(b" ")
        return read(self, name, *rows)

    monkeypatch.setattr(TensorFile, "read", touch)
    with pytest.raises(CheckpointChanged):
        Checkpoint.open(tmp_path)


def test_file_that_is_replaced_between_two_looks_at_its_header_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_checkpoint(tmp_path)
    plain = json.loads

    def other(data: Any, **options: Any) -> Any:
        found = plain(data, **options)
        return {} if isinstance(found, dict) and EMBEDDING in found else found

    monkeypatch.setattr(json, "loads", other)
    with pytest.raises((CheckpointChanged, UnreadableFile)):
        Checkpoint.open(tmp_path)
