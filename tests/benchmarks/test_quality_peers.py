"""benchmarks/quality_peers.py: how bits are counted, how other formats are read, what is compared with what."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch

from benchmarks.equal_size.activations import by_row, in_groups, of_gguf_type, q8_0, q8_k, round_inputs
from benchmarks.equal_size.artifact_weights import dequantized, read_artifact
from benchmarks.equal_size.bitsandbytes_weights import int8, nf4
from benchmarks.equal_size.evaluation import Evaluation, mean_of, of_artifact, of_network
from benchmarks.equal_size.gguf_weights import checkpoint_name, gguf_name, read_gguf, write_gguf
from benchmarks.equal_size.plot import plot
from benchmarks.equal_size.real_weights import _on_padded, padded_size
from benchmarks.equal_size.smollm2 import unpaired
from benchmarks.equal_size.stored import Bits, of_bits, of_formats, of_tensors
from benchmarks.equal_size.subjects import BITSANDBYTES, LLAMA_CPP, OURS, Measured
from benchmarks.equal_size.table import Point, frontier, size_table, verdict_table, verdicts
from dream_edge.quality.measure.differences import Differences
from dream_edge_export.checkpoint.checkpoint import Checkpoint
from dream_edge_export.checkpoint.forms import parse_config
from dream_edge_export.quantize.grid import encode_linear
from dream_edge_export.reference.model import load_reference
from dream_edge_runtime.artifact import Artifact
from dream_edge_runtime.format.model_config import ModelConfig
from dream_edge_runtime.format.recipe import ROW, Recipe, WeightFormat
from support import arithmetic
from support.artifacts import make_artifact
from support.checkpoints import config_dict, random_weights

FORMATS = [
    WeightFormat(kind="float"),
    ROW,
    WeightFormat(kind="nf4", bits=4, block_size=32),
    WeightFormat(kind="block", bits=4, block_size=32),
    WeightFormat(kind="block", bits=4, block_size=32, symmetric=False),
    WeightFormat(kind="block", bits=8, block_size=128),
]


@pytest.fixture(scope="module")
def random_artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return make_artifact(tmp_path_factory.mktemp("random"), hidden_size=128, intermediate_size=256)


@pytest.fixture(scope="module")
def random_checkpoint(random_artifact: Artifact) -> Checkpoint:
    return Checkpoint.open(random_artifact.path.parent / "checkpoint")


@pytest.fixture
def config() -> ModelConfig:
    return parse_config(config_dict(vocab_size=512, hidden_size=64, intermediate_size=128))


def test_bits_are_bytes_over_parameters(config: ModelConfig) -> None:
    layer = 2 * 64 * 64 + 2 * 32 * 64 + 3 * 128 * 64  # q, o; k, v; gate, up, down
    vectors = 2 * (64 + 64 + 32 + 32 + 64) + 64
    parameters = 2 * layer + 2 * 512 * 64 + vectors
    stored = of_formats(Recipe.for_scheme("int8").targets["cpu"], 1000, config)
    outputs = 2 * (64 + 32 + 32 + 64 + 128 + 128 + 64)
    body = 2 * layer + 4 * outputs  # a byte each, and an fp32 scale for each output
    embedding, lm_head = 512 * (128 + 2), 512 * 64 + 4 * 512  # rows of 64 are padded to a group of 128
    assert (stored.body, stored.weights) == (body, body + embedding + lm_head + 4 * vectors)
    bits = stored.bits(config)
    assert bits == pytest.approx(Bits(8000 / parameters, 8 * stored.weights / parameters, 8 * body / (2 * layer)))


def test_embedding_and_lm_head_of_other_formats_count_as_they_are_stored(config: ModelConfig) -> None:
    assert of_bits(16, 16, config).bits(config) == Bits(16, 16, 16)
    four = of_bits(4, 16, config).bits(config)
    assert four.body == pytest.approx(4, abs=1e-3)
    assert 4 < four.weights < 16
    sizes = {name: 2 * tensor.numel() for name, tensor in random_weights(config).items()}
    assert of_tensors(sizes, 0, config).bits(config) == Bits(0, 16, 16)


def test_names_of_a_gguf_are_those_of_the_checkpoint(config: ModelConfig) -> None:
    for name in random_weights(config):
        assert checkpoint_name(gguf_name(name)) == name
    assert gguf_name("model.layers.11.mlp.down_proj.weight") == "blk.11.ffn_down.weight"
    assert checkpoint_name("rope_freqs.weight") is None


def test_a_gguf_holds_the_checkpoint(config: ModelConfig, tmp_path: Path) -> None:
    weights = random_weights(config)
    write_gguf(tmp_path / "whole.gguf", weights, config)
    read = read_gguf(tmp_path / "whole.gguf")
    assert read.tensors.keys() == weights.keys()
    assert all(torch.equal(read.tensors[name], weights[name]) for name in weights)
    assert read.sizes["model.norm.weight"] == 4 * 64
    assert read.file == (tmp_path / "whole.gguf").stat().st_size


def test_a_quantized_matrix_is_read_as_its_codes_times_its_scales(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scales = rng.random((3, 2)).astype(np.float16)
    codes = rng.integers(-127, 128, (3, 2, 32)).astype(np.int8)
    blocks = np.concatenate([scales[..., None].view(np.uint8), codes.view(np.uint8)], axis=-1).reshape(3, -1)
    writer = gguf.GGUFWriter(tmp_path / "q8_0.gguf", "dream")
    writer.add_tensor("blk.1.attn_k.weight", blocks, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    read = read_gguf(tmp_path / "q8_0.gguf")
    name = "model.layers.1.self_attn.k_proj.weight"
    expected = (codes * scales[..., None].astype(np.float32)).reshape(3, 64)
    assert np.array_equal(read.tensors[name].numpy(), expected)
    assert (read.types[name], read.sizes[name]) == ("Q8_0", 3 * 2 * 34)


@pytest.mark.parametrize("weights", FORMATS, ids=str)
def test_our_own_matrices_are_read_as_they_are_stored(weights: WeightFormat) -> None:
    matrix = torch.randn(48, 96, generator=torch.Generator().manual_seed(0))
    stored = encode_linear(matrix, weights)
    expected = arithmetic.dequantized(stored, weights, 96)
    np.testing.assert_allclose(dequantized(stored, weights, (48, 96)), expected, rtol=1e-6, atol=1e-7)


def test_an_artifact_reads_as_its_checkpoint(random_artifact: Artifact, random_checkpoint: Checkpoint) -> None:
    read = read_artifact(random_artifact)
    assert read.keys() == set(random_checkpoint.names)
    for name, tensor in read.items():
        exact = random_checkpoint.tensor(name).float()
        assert (tensor - exact).norm() < 0.01 * exact.norm()


def test_bitsandbytes_formats_stand_for_their_own_numbers() -> None:
    weight = torch.randn(16, 128, generator=torch.Generator().manual_seed(0))
    blocks = weight.reshape(-1, 64)
    ratios = nf4(weight, nested=False).reshape(-1, 64) / blocks.abs().amax(dim=1, keepdim=True)
    assert len(set(ratios.mul(1e4).round().flatten().tolist())) <= 16
    assert not torch.equal(nf4(weight, nested=True), nf4(weight, nested=False))
    steps = weight.abs().amax(dim=1, keepdim=True) / 127
    assert torch.allclose(int8(weight), (weight / steps).round() * steps, rtol=1e-5)


def test_activations_are_rounded_as_each_program_does() -> None:
    x = torch.zeros(2, 512)
    x[0, 0], x[0, 1], x[0, 40] = 127.0, 0.6, 0.6
    assert q8_0(x)[0, 1] == 1  # steps of 1 beside a 127
    assert q8_0(x)[0, 40] == pytest.approx(0.6, abs=1e-3)  # in another group
    assert q8_k(x)[0, 40] == 1  # the group is 256 long
    assert by_row(x)[0, 300] == 0
    assert by_row(x)[0, 1] == 1
    apart = by_row(x, threshold=6.0)
    assert apart[0, 0] == 127
    assert apart[0, 1] == pytest.approx(0.6)
    odd = torch.randn(3, 80, generator=torch.Generator().manual_seed(0))
    largest = odd[:, 64:].abs().amax(dim=1, keepdim=True)
    assert ((in_groups(32)(odd) - odd)[:, 64:].abs() <= largest / 254 * 1.001).all()
    for rounding in (q8_0, q8_k, by_row):
        assert torch.equal(rounding(torch.zeros(2, 256)), torch.zeros(2, 256))


def test_a_type_decides_how_its_inputs_are_rounded() -> None:
    assert of_gguf_type("Q4_K") is q8_k
    assert of_gguf_type("Q4_0") is q8_0
    assert of_gguf_type("BF16") is None


def test_only_the_named_products_round_their_inputs() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4))
    x = torch.randn(1, 4)
    exact = network(x)
    round_inputs(network, {"0": torch.zeros_like, "1": None})
    assert not torch.equal(network(x), exact)
    assert torch.equal(network(x), network(torch.zeros(1, 4)))


def test_rows_paired_by_llama_cpp_come_apart_again() -> None:
    rows = torch.arange(2 * 6)[:, None].float()  # two heads of six
    paired = rows.reshape(2, 2, 3, 1).swapaxes(1, 2).reshape(rows.shape)  # as its converter does for Llama
    assert torch.equal(unpaired(paired, 6), rows)


def test_rows_are_filled_up_to_super_blocks_without_a_trace() -> None:
    assert [padded_size(size) for size in (1, 256, 576)] == [256, 256, 768]
    x = torch.randn(2, 300)
    assert _on_padded(q8_k)(x).shape == x.shape


def test_a_model_loses_nothing_against_itself(random_artifact: Artifact, random_checkpoint: Checkpoint) -> None:
    network = load_reference(random_checkpoint)
    evaluation = Evaluation.of(random_checkpoint, network, random_artifact, 3, 0)
    assert mean_of([each.kl for each in evaluation.losses(of_network(network))]).mean < 1e-12
    found = evaluation.losses(of_artifact(random_artifact, 1))
    assert mean_of([each.kl for each in found]).mean > 0
    assert sum(len(each.kl) for each in found) == sum(len(each.positions) for each in evaluation.passages)


def test_the_error_of_a_mean_is_that_of_independent_sequences() -> None:
    values = [np.array([value]) for value in (1.0, 2.0, 4.0, 9.0)]
    found = mean_of(values)
    assert found.mean == 4
    assert found.error == pytest.approx(float(np.std([1, 2, 4, 9], ddof=1)) / 2)


def _measured(name: str, family: str, bits: float, *kl: float) -> Measured:
    losses = [
        Differences(
            **{
                field: np.array([value]) if field == "kl" else np.ones(1, bool if field == "same_top" else float)
                for field in Differences.__dataclass_fields__
            }
        )
        for value in kl
    ]
    return Measured(name, family, Bits(bits, bits, bits), losses, losses)


def test_a_peer_is_held_against_the_best_of_ours_that_is_no_larger() -> None:
    measured = [
        _measured("small", OURS, 4.0, 0.3, 0.5),
        _measured("large", OURS, 6.0, 0.1, 0.1),
        _measured("Q4", LLAMA_CPP, 4.5, 0.5, 0.9),
        _measured("Q8", LLAMA_CPP, 8.0, 0.05, 0.05),
        _measured("tiny", BITSANDBYTES, 3.0, 9.0, 9.0),
    ]
    first, second, third = verdicts(measured, lambda each: each.weights)
    assert (first.peer, first.rival) == ("tiny", None)
    assert (second.rival, third.rival) == ("small", "large")
    assert [second.difference, second.error] == pytest.approx([-0.3, 0.1])
    assert [third.difference, third.error] == pytest.approx([0.05, 0])
    assert "| Q4 | small | -0.300000 ± 0.100000 |" in verdict_table([second], [second])
    assert size_table(measured).splitlines()[2].startswith("| tiny | bitsandbytes | 3.00")


def test_the_frontier_leaves_out_what_is_larger_and_worse(tmp_path: Path) -> None:
    points = [
        Point(name, OURS, bits, loss) for name, bits, loss in (("a", 4, 3), ("b", 5, 4), ("c", 6, 1), ("d", 4, 9))
    ]
    assert [each.name for each in frontier(points)] == ["a", "c"]
    plot(tmp_path / "plot.png", [("one", "loss", points)])
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
