"""Synthesised checkpoints: Dream's layout, the same bytes again, and weights that behave like trained ones."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from dream_edge_export.checkpoint.checkpoint import Checkpoint
from dream_edge_export.checkpoint.forms import StatedFacts
from dream_edge_export.reference.model import load_reference
from tools.synthetic.checkpoint import SHARD_SIZE, _shards, synthesize
from tools.synthetic.family import GEOMETRIES, geometry
from tools.synthetic.geometries import DREAM_CONFIG, Geometry
from tools.synthetic.weights import Weights, tensor_shapes

PROGRAM = Path(__file__).parents[2] / "tools" / "synthesize.py"
WORDS = 600


def small(name: str = "dream-7b", **sizes: int) -> Geometry:
    defaults = {
        "hidden_size": 128,
        "intermediate_size": 512,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    return geometry(name).sized(**{**defaults, **sizes})


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A narrow Dream of two layers in several shards, the whole vocabulary's ids and its first words."""
    out = tmp_path_factory.mktemp("synthetic") / "dream"
    synthesize(small(), out, shard_size=600_000, words=WORDS)
    return out


def digests(directory: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in directory.iterdir()}


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


# --- layout ----------------------------------------------------------------------------------------------------------


def test_files_are_those_of_the_hub(checkpoint: Path) -> None:
    assert {file.name for file in checkpoint.iterdir()} == {
        "README.md",
        "added_tokens.json",
        "config.json",
        "generation_config.json",
        "merges.txt",
        *(f"model-{number:05d}-of-00004.safetensors" for number in (1, 2, 3, 4)),
        "model.safetensors.index.json",
        "special_tokens_map.json",
        "tokenizer_config.json",
        "vocab.json",
    }
    assert {**read(checkpoint / "config.json")} == small().config
    assert read(checkpoint / "generation_config.json")["steps"] == 512


def test_index_names_the_shard_of_every_tensor_and_their_bytes(checkpoint: Path) -> None:
    index = read(checkpoint / "model.safetensors.index.json")
    size, found = 0, {}
    for file in checkpoint.glob("*.safetensors"):
        with safe_open(file, framework="pt") as tensors:
            assert tensors.metadata() == {"format": "pt"}
            for name in tensors.keys():  # noqa: SIM118  (not a dictionary)
                tensor = tensors.get_tensor(name)
                assert tensor.dtype == torch.bfloat16
                size += tensor.nbytes
                found[name] = file.name
    assert index == {"metadata": {"total_size": size}, "weight_map": found}
    assert list(index["weight_map"]) == sorted(found)


def test_the_7b_has_four_shards_and_15_2_gb() -> None:
    shapes = tensor_shapes(DREAM_CONFIG, stores_lm_head=True)
    shards = _shards(shapes, SHARD_SIZE)
    assert len(shapes) == 3 + 28 * 12
    assert [name for shard in shards for name in shard] == list(shapes)
    assert list(shards[3]) == ["lm_head.weight"]
    sizes = [sum(2 * torch.Size(shape).numel() for shape in shard.values()) for shard in shards]
    assert len(sizes) == 4
    assert max(sizes) <= SHARD_SIZE
    assert sum(sizes) == 15_231_233_024


@pytest.mark.parametrize("name", GEOMETRIES)
def test_every_geometry_opens_as_a_checkpoint(name: str, tmp_path: Path) -> None:
    described = small(name, hidden_size=64, intermediate_size=128, num_hidden_layers=1)
    synthesize(described, tmp_path / "out", words=256)
    opened = Checkpoint.open(tmp_path / "out", StatedFacts(**described.stated))
    assert opened.config.bos_token_id == described.config.get("bos_token_id", 151645)  # CoDA's, by its role
    written = described.generation or {}
    assert opened.generation_defaults.items() <= {**written, "sampler": "bd3lm"}.items()
    assert written.keys() - opened.generation_defaults.keys() <= {"alg"}  # CoDA's "original"
    assert (tmp_path / "out" / "tokenizer.json").exists() == described.fast_tokenizer
    with safe_open(tmp_path / "out" / "model.safetensors", framework="pt") as tensors:
        assert ("lm_head.weight" in tensors.keys()) == described.stores_lm_head  # noqa: SIM118


def test_added_tokens_keep_their_ids_where_words_are_left_out(checkpoint: Path) -> None:
    assert len(read(checkpoint / "vocab.json")) == WORDS
    added = read(checkpoint / "added_tokens.json")
    assert (added["<|endoftext|>"], added["<|im_end|>"], added["<|mask|>"]) == (151643, 151645, 151666)
    assert len((checkpoint / "merges.txt").read_text("utf-8").splitlines()) == 1 + WORDS - 256


# --- the same bytes --------------------------------------------------------------------------------------------------


def test_a_seed_repeats_every_byte(checkpoint: Path, tmp_path: Path) -> None:
    synthesize(small(), tmp_path / "again", shard_size=600_000, words=WORDS)
    assert digests(tmp_path / "again") == digests(checkpoint)


def test_another_seed_changes_the_weights_alone(checkpoint: Path, tmp_path: Path) -> None:
    synthesize(small(), tmp_path / "other", seed=1, shard_size=600_000, words=WORDS)
    ours, theirs = digests(checkpoint), digests(tmp_path / "other")
    assert {name for name in ours if ours[name] != theirs[name]} == {name for name in ours if "-of-" in name}


def test_tensors_do_not_depend_on_the_shards(checkpoint: Path, tmp_path: Path) -> None:
    synthesize(small(), tmp_path / "whole", words=WORDS)
    one, many = Checkpoint.open(tmp_path / "whole"), Checkpoint.open(checkpoint)
    assert len(one.files) == 1
    for name in one.names:
        assert torch.equal(one.tensor(name), many.tensor(name)), name


# --- safety ----------------------------------------------------------------------------------------------------------


def test_what_exists_is_kept_without_force(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "precious").touch()
    with pytest.raises(FileExistsError, match="--force"):
        synthesize(small(), out)
    assert [file.name for file in out.iterdir()] == ["precious"]
    synthesize(small(num_hidden_layers=1), out, words=256, force=True)
    assert not (out / "precious").exists()


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    def fail(*_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synthesize(small(), tmp_path / "out", words=256, progress=fail)
    assert list(tmp_path.iterdir()) == []


def test_program_runs_as_a_file_from_anywhere(tmp_path: Path) -> None:
    sizes = "--layers 1 --hidden 64 --intermediate 128 --heads 2 --kv-heads 1 --words 256".split()
    command = [sys.executable, "-I", str(PROGRAM), "--geometry", "dream-7b", *sizes, "a b/out"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert Checkpoint.open(tmp_path / "a b" / "out").config.num_hidden_layers == 1
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert again.returncode == 1
    assert "--force" in again.stderr
    assert "Traceback" not in again.stderr


# --- statistics ------------------------------------------------------------------------------------------------------


def kurtosis(values: torch.Tensor) -> float:
    centred = values.double() - values.double().mean()
    return float((centred**4).mean() / (centred**2).mean() ** 2)


def test_tails_are_heavy_and_rows_differ(checkpoint: Path) -> None:
    weights = Checkpoint.open(checkpoint)
    for kind in ("self_attn.q_proj", "mlp.gate_proj", "mlp.up_proj"):
        matrix = weights.tensor(f"model.layers.0.{kind}.weight").float()
        plain = matrix[matrix.std(dim=1) < 2 * matrix.std(dim=1).median()]  # without the outlier channels
        standard = plain / plain.std(dim=1, keepdim=True)
        assert 4 < kurtosis(standard) < 8, kind  # 3 = normal
        assert plain.std(dim=1).std() / plain.std() > 0.1, kind
    assert weights.tensor("lm_head.weight").float().std() == pytest.approx(128**-0.5, rel=0.1)


def test_no_two_rows_are_alike(checkpoint: Path) -> None:
    """Up to their scales either: rows are drawn, not made from a pool."""
    matrix = Checkpoint.open(checkpoint).tensor("model.embed_tokens.weight").float()[:8192]
    unit = matrix / matrix.norm(dim=1, keepdim=True)
    similarity = unit @ unit.T
    similarity.fill_diagonal_(0)
    assert similarity.abs().max() < 0.7


def test_gammas_are_away_from_one_and_some_are_large(checkpoint: Path) -> None:
    weights = Checkpoint.open(checkpoint)
    for name in weights.names:
        if name.endswith("norm.weight"):
            gammas = weights.tensor(name).float()
            assert gammas.min() > 0
            assert gammas.std() / gammas.mean() > 0.2, name
            assert gammas.max() > 2.5 * gammas.median(), name
    assert weights.tensor("model.norm.weight").float().median() == pytest.approx(5, rel=0.15)


def test_biases_of_keys_are_large_and_keep_attention_alive(checkpoint: Path) -> None:
    """Only where the angle hardly turns over the context: elsewhere they would outweigh what is said."""
    weights = Checkpoint.open(checkpoint)
    bias = weights.tensor("model.layers.0.self_attn.k_proj.bias").float().view(-1, 2, 16)  # heads of 32: 16 pairs
    assert bias.abs().max() > 10
    assert bias[..., :12].abs().max() < 6


def activations(checkpoint: Path) -> dict[str, torch.Tensor]:
    """The input of every down_proj, what every layer adds up to, and the logits, of text and masks."""
    network = load_reference(Checkpoint.open(checkpoint))
    seen: dict[str, torch.Tensor] = {}
    for index, layer in enumerate(network.model.layers):
        layer.register_forward_hook(lambda _, __, out, key=f"residual {index}": seen.update({key: out}))
        down = layer.get_submodule("mlp.down_proj")
        down.register_forward_hook(lambda _, x, __, key=f"down {index}": seen.update({key: x[0]}))
    ids = torch.cat([torch.arange(100, 140), torch.full((24,), 151666)])[None]
    seen["logits"] = network(ids)
    return seen


def test_down_proj_meets_outliers_on_most_tokens(checkpoint: Path) -> None:
    weights = Weights(small().config, seed=0)
    seen = activations(checkpoint)
    for layer in range(2):
        given = seen[f"down {layer}"][0]
        usual = given.abs().median(dim=1).values
        channels = weights.outliers(layer)[0].tolist()
        assert (given.abs().amax(dim=1) / usual > 30).float().mean() > 0.5
        assert set(given.abs().amax(dim=0).topk(2).indices.tolist()) == set(channels)


def test_a_deep_stack_stays_finite_in_half_precision(tmp_path: Path) -> None:
    synthesize(small(num_hidden_layers=28), tmp_path / "deep", words=256)
    seen = activations(tmp_path / "deep")
    for name, values in seen.items():
        assert values.isfinite().all(), name
        assert values.abs().max() < 6550, name  # a tenth of what fp16 holds
    assert 0.1 < float(seen["residual 27"].pow(2).mean().sqrt()) < 100
    best = seen["logits"].softmax(dim=-1).amax(dim=-1)
    assert 0.2 < float(best.mean()) < 0.99
    assert len(set(seen["logits"][0, 40:].argmax(dim=-1).tolist())) > 3  # masks differ by their places
