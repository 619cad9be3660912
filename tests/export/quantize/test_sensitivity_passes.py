"""Perturbed passes against the whole network in memory, with matrices replaced one by one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from dream_edge_export.checkpoint.checkpoint import Checkpoint
from dream_edge_export.quantize.grid import encode_embedding, encode_linear
from dream_edge_export.quantize.sensitivity_passes import MaskedSequence, SensitivityPlan, Variant, measure_divergences
from dream_edge_export.reference.model import load_reference
from dream_edge_runtime.format.recipe import ROW, TABLE, WeightFormat
from dream_edge_runtime.format.tensors import EMBEDDING, LM_HEAD, matrix_shapes
from support.arithmetic import block_rounded, dequantized, quantized_rows
from support.checkpoints import BLOCK_CAUSAL, random_weights, write_checkpoint, write_weights

INT4 = WeightFormat(kind="block", bits=4, block_size=32, symmetric=False)
INT8 = WeightFormat(kind="block", bits=8, block_size=128)
NF4 = WeightFormat(kind="nf4", bits=4, block_size=64)

Kl = list[np.ndarray[Any, np.dtype[np.float64]]]


@pytest.fixture(scope="module", params=[{}, {**BLOCK_CAUSAL, "head_dim": 32}], ids=["full", "block-causal"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    path = tmp_path_factory.mktemp("perturbed") / "checkpoint"
    write_checkpoint(path, num_hidden_layers=3, max_position_embeddings=2048, **request.param)
    return Checkpoint.open(path)


def canvases(lengths: tuple[int, ...] = (9, 30, 14, 9, 1)) -> list[MaskedSequence]:
    rng = np.random.default_rng(3)
    return [
        MaskedSequence(rng.integers(0, 400, size=n), np.sort(rng.choice(n, -(-n // 2), replace=False))) for n in lengths
    ]


def variants() -> list[dict[str, WeightFormat]]:
    layer = {f"model.layers.1.{part}": INT4 for part in ("self_attn.q_proj", "self_attn.o_proj", "mlp.up_proj")}
    return [
        {"model.layers.2.mlp.down_proj": ROW},
        {"model.layers.0.self_attn.k_proj": INT4},
        {LM_HEAD: ROW},
        {EMBEDDING: INT8},
        {"model.layers.1.self_attn.v_proj": NF4},
        {LM_HEAD: INT4},
        layer,
        {**layer, EMBEDDING: INT8, "model.layers.2.mlp.gate_proj": ROW, LM_HEAD: INT8},
        {"model.layers.0.mlp.gate_proj": ROW, "model.layers.0.mlp.up_proj": INT4},
    ]


def measured(plan: SensitivityPlan, progress: Callable[[float], None] = lambda _: None) -> list[Kl]:
    found = dict(entry for wave in measure_divergences(plan, progress) for entry in wave)
    return [found[index] for index in range(len(plan.variants))]


class Stored(nn.Module):
    """A product as NumPy spells it out."""

    def __init__(self, exact: nn.Linear, weights: WeightFormat) -> None:
        super().__init__()
        arrays = encode_linear(exact.weight, weights)
        self.matrix, self.format, self.bias = dequantized(arrays, weights, exact.in_features), weights, exact.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        seen: Any = x.flatten(0, -2).numpy()
        if self.format.kind == "row":
            codes, scale = quantized_rows(seen)
            seen = (codes.astype(np.float64) - 128) * scale
        elif self.format.kind == "block":
            seen = block_rounded(seen, self.format.block_size)
        product = torch.from_numpy((seen @ self.matrix.T).astype(np.float32)).view(*x.shape[:-1], -1)
        return product if self.bias is None else product + self.bias


class Table(nn.Module):
    def __init__(self, rows: torch.Tensor) -> None:
        super().__init__()
        self.rows = rows

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.rows[ids]


def by_brute_force(checkpoint: Checkpoint, variant: Variant, sequences: list[MaskedSequence]) -> Kl:
    network, changed = load_reference(checkpoint), load_reference(checkpoint)
    for name, weights in variant.items():
        module: Any = changed.get_submodule(name)
        if name == EMBEDDING:
            arrays = encode_embedding(module.weight, weights)
            arrays["weight"] = arrays["weight"].reshape(len(module.weight), 1, -1)
            stored = dequantized(arrays, weights, module.weight.shape[1]).astype(np.float32)
            changed.set_submodule(name, Table(torch.from_numpy(stored)))
        else:
            changed.set_submodule(name, Stored(module, weights))
    found = []
    with torch.inference_mode():
        for canvas in sequences:
            ids, rows = torch.from_numpy(canvas.ids)[None], torch.from_numpy(canvas.rows)
            p = network(ids)[0, rows].double().log_softmax(-1)
            q = changed(ids)[0, rows].double().log_softmax(-1)
            found.append((p.exp() * (p - q)).sum(-1).numpy())
    return found


@pytest.mark.parametrize("index", range(9))
def test_a_variant_diverges_as_the_whole_network_with_those_matrices_replaced(
    checkpoint: Checkpoint, index: int
) -> None:
    """fp32 sums in another order move a logit by about 1e-6 and so KL, far below the loss, by 1e-6 times its root.

    Now and then an activation lies between two codes and falls to the other side: a thousandth of the loss.
    """
    found = measured(SensitivityPlan(checkpoint, canvases(), variants()))[index]
    expected = by_brute_force(checkpoint, variants()[index], canvases())
    assert [len(part) for part in found] == [len(part) for part in expected]
    assert np.concatenate(expected).mean() > 1e-7
    for ours, theirs in zip(found, expected, strict=True):
        assert np.allclose(ours, theirs, rtol=5e-3, atol=1e-9)


def test_nothing_changed_diverges_by_nothing(checkpoint: Checkpoint) -> None:
    found = measured(SensitivityPlan(checkpoint, canvases(), [{}]))
    assert np.concatenate(found[0]).max() < 1e-12


def test_waves_of_one_variant_give_the_same(checkpoint: Checkpoint) -> None:
    together = SensitivityPlan(checkpoint, canvases(), variants())
    apart = SensitivityPlan(checkpoint, canvases(), variants(), states_bytes=1)
    assert len(together.waves) == 4
    assert len(apart.waves) == len(variants())
    for ours, theirs in zip(measured(together), measured(apart), strict=True):
        assert np.allclose(np.concatenate(ours), np.concatenate(theirs), rtol=1e-3, atol=1e-10)


def test_the_vocabulary_in_strips_gives_the_same(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = measured(SensitivityPlan(checkpoint, canvases(), variants()))
    monkeypatch.setattr("dream_edge_export.quantize.sensitivity_passes._LOGITS_AT_ONCE", 1)
    strips = measured(SensitivityPlan(checkpoint, canvases(), variants()))
    for ours, theirs in zip(whole, strips, strict=True):
        assert np.allclose(np.concatenate(ours), np.concatenate(theirs), rtol=1e-6, atol=1e-12)


def test_a_sequence_does_not_depend_on_those_beside_it(checkpoint: Checkpoint) -> None:
    """Shorter ones are padded; nobody may attend to that."""
    every = measured(SensitivityPlan(checkpoint, canvases(), variants()[6:8]))
    for index, canvas in enumerate(canvases()):
        alone = measured(SensitivityPlan(checkpoint, [canvas], variants()[6:8]))
        for ours, theirs in zip(every, alone, strict=True):
            assert np.allclose(ours[index], theirs[0], rtol=5e-3, atol=1e-10)


def test_an_embedding_that_is_lm_head_too_changes_as_both(tmp_path: Path) -> None:
    """As in a network that has two of them, equal ones."""
    form: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 128}
    tied = write_checkpoint(tmp_path / "tied", **form, tie_word_embeddings=True)
    write_checkpoint(tmp_path / "untied", **form)
    weights = random_weights(tied)
    write_weights(tmp_path / "untied", {**weights, "lm_head.weight": weights["model.embed_tokens.weight"].clone()})
    found, alone, both = (
        np.concatenate(measured(SensitivityPlan(Checkpoint.open(tmp_path / name), canvases(), [variant]))[0])
        for name, variant in (
            ("tied", {EMBEDDING: TABLE}),
            ("untied", {EMBEDDING: TABLE}),
            ("untied", {EMBEDDING: TABLE, LM_HEAD: TABLE}),
        )
    )
    assert found.tolist() == both.tolist()
    assert found.mean() > 1.2 * alone.mean() > 1e-9


def test_progress_ends_where_the_plan_said(checkpoint: Checkpoint) -> None:
    seen: list[float] = []
    plan = SensitivityPlan(checkpoint, canvases(), variants())
    measured(plan, seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx(plan.passes, rel=1e-9)


def test_a_variant_of_the_last_layer_costs_less_than_one_of_the_first(checkpoint: Checkpoint) -> None:
    first = SensitivityPlan(checkpoint, canvases(), [{"model.layers.0.mlp.up_proj": INT4}])
    last = SensitivityPlan(checkpoint, canvases(), [{LM_HEAD: INT4}])
    assert first.passes == pytest.approx(2)
    assert last.passes < 2
    assert first.seconds() > 0


def test_memory_said_covers_the_largest_layer_and_the_states(checkpoint: Checkpoint) -> None:
    plan = SensitivityPlan(checkpoint, canvases(), variants())
    shapes = matrix_shapes(checkpoint.config)
    layer = sum(4 * rows * columns for name, (rows, columns) in shapes.items() if ".layers.0." in name)
    assert plan.memory > layer + plan.state_bytes * max(len(wave) for _, wave in plan.waves)
