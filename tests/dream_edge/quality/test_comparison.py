"""`compare`: what it measures, on what, and what it refuses."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import dream_edge
from dream_edge.quality import (
    Base,
    Comparison,
    Sample,
    Text,
    build_base,
    compare_artifact,
    draw_evaluation,
    temporary_base,
)
from dream_edge.quality.errors import MismatchedModels, NoData
from dream_edge.quality.texts.masking import mask_passages
from dream_edge.quality.texts.read import passages
from dream_edge_export.checkpoint.checkpoint import Checkpoint
from dream_edge_export.export import export
from dream_edge_export.reference.model import load_reference, shift
from dream_edge_runtime.artifact import Artifact
from dream_edge_runtime.errors import InvalidOption, MissingExtra
from dream_edge_runtime.format.recipe import Recipe
from dream_edge_runtime.progress import OnProgress, silent
from support.checkpoints import write_checkpoint

TEXTS: list[Text] = [
    "The quick brown fox jumps over the lazy dog.",
    Sample("Input:\n1000\nOutput:\n", "1234 and then the other thing"),
    Sample(({"role": "user", "content": "What is the capital?"},), "The capital of the country."),
]


@dataclass
class World:
    """One random checkpoint and its artifacts, made when first asked for."""

    directory: Path
    checkpoint: Checkpoint
    made: dict[str, Artifact] = field(default_factory=dict)
    bases: dict[str, Base] = field(default_factory=dict)

    def artifact(self, scheme: str) -> Artifact:
        if scheme not in self.made:
            self.made[scheme] = export(self.checkpoint, self.directory / scheme, Recipe.for_scheme(scheme))
        return self.made[scheme]

    def compare(self, scheme: str, *, progress: OnProgress = silent, **options: Any) -> Comparison:
        return compare_artifact(self.artifact(scheme), self.base(**options), threads=1, progress=progress)

    def base(self, **options: Any) -> Base:
        evaluation = draw_evaluation(self.checkpoint, **{"data": TEXTS, "sequences": 12, **options})
        path = self.directory / f"{len(self.bases)}.base"
        key = repr(sorted(options.items()))
        if key not in self.bases:
            self.bases[key] = build_base(self.checkpoint, evaluation, path)
        return self.bases[key]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    directory = tmp_path_factory.mktemp("compare")
    write_checkpoint(directory / "checkpoint")
    return World(directory, Checkpoint.open(directory / "checkpoint"))


def test_fp32_artifact_equals_its_reference(world: World) -> None:
    overall = world.compare("fp32").overall
    assert overall.kl_p99 < 2e-8  # what 16 bits lose
    assert overall.same_top == 1
    assert abs(overall.delta_elbo) < 1e-4  # a target's log-probability is off by 3e-4 at most, to either side


def test_fewer_bits_cost_more(world: World) -> None:
    eight, four = world.compare("int8").overall, world.compare("int4").overall
    assert 1e-6 < eight.kl_mean < four.kl_mean / 5
    assert eight.same_top > four.same_top
    assert eight.elbo_reference == four.elbo_reference


def test_masked_positions_are_predicted_by_the_row_before(world: World) -> None:
    """The bound of both sides, from full passes that `shift` has moved; position 0 is among the masked."""
    tokenizer, config = world.artifact("fp32").tokenizer(), world.checkpoint.config
    drawn = [*mask_passages(passages(TEXTS, tokenizer, 512), config, count=12, bins=5, seed=6)]
    assert any(masked.positions[0] == 0 for masked in drawn)
    reference, estimates = load_reference(world.checkpoint), []
    for masked in drawn:
        log_p = shift(reference(torch.from_numpy(masked.canvas)[None]), config.shift).log_softmax(-1)[0]
        estimates.append(log_p[masked.positions, masked.targets].mean().item())
    found = world.compare("fp32", seed=6).overall
    assert found.elbo_reference == pytest.approx(np.mean(estimates), rel=2e-4)  # 16 bits
    assert found.elbo_artifact == pytest.approx(np.mean(estimates), rel=1e-5)


def test_same_seed_gives_same_figures_and_another_does_not(world: World) -> None:
    first, again, other = (world.compare("int8", seed=seed).to_dict() for seed in (3, 3, 4))
    assert first == again
    assert first["overall"] != other["overall"]


def test_every_artifact_sees_the_same_masks(world: World) -> None:
    eight, four = (world.compare(scheme) for scheme in ("int8", "int4"))
    assert [part.measures.elbo_reference for part in eight.bins] == [part.measures.elbo_reference for part in four.bins]


def test_bins_partition_the_sequences_and_positions(world: World) -> None:
    found = world.compare("int8", sequences=40)
    assert [(part.low, part.high) for part in found.bins] == [(i / 5, (i + 1) / 5) for i in range(5)]
    assert sum(part.measures.sequences for part in found.bins) == found.overall.sequences == 40
    assert sum(part.measures.positions for part in found.bins) == found.overall.positions
    mean = sum(part.measures.kl_mean * part.measures.positions for part in found.bins) / found.overall.positions
    assert mean == pytest.approx(found.overall.kl_mean)


def test_dictionary_is_json_with_the_promised_keys(world: World) -> None:
    document = json.loads(json.dumps(world.compare("int8").to_dict(), allow_nan=False))
    promised = {"kl_mean", "kl_median", "kl_p99", "same_top", "delta_elbo", "delta_elbo_se", "positions", "sequences"}
    assert promised <= document["overall"].keys()
    assert all(promised | {"mask_ratio"} <= part.keys() for part in document["bins"])
    assert document["scheme"] == "int8"


def test_long_texts_are_cut_at_the_context(world: World) -> None:
    text = "the other thing " * 400
    assert len(world.artifact("int8").tokenizer().encode(text)) > world.checkpoint.config.max_position_embeddings
    assert world.compare("int8", data=[text], sequences=2).overall.sequences == 2


def test_progress_counts_sequences(world: World) -> None:
    seen: list[tuple[float, float]] = []
    world.compare("int8", sequences=3, progress=lambda now: seen.append((now.done, now.total)))
    assert seen == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_default_texts_are_the_built_in_ones(world: World) -> None:
    assert world.compare("int8", data=None, sequences=2).overall.positions > 0


@pytest.mark.parametrize("data", [[], [""], "one string", [Sample("only a prompt", "")]])
def test_data_without_anything_to_mask_is_refused(world: World, data: list[Text]) -> None:
    with pytest.raises(NoData):
        world.compare("int8", data=data)


@pytest.mark.parametrize(
    "change",
    [
        {"vocab_size": 449},
        {"num_hidden_layers": 3},
        {"rope_theta": 500.0},
        {"num_key_value_heads": 4},
    ],
    ids=lambda change: next(iter(change)),
)
def test_another_geometry_is_refused(world: World, tmp_path: Path, change: dict[str, Any]) -> None:
    write_checkpoint(tmp_path, **change)
    checkpoint = Checkpoint.open(tmp_path)
    evaluation = draw_evaluation(checkpoint, data=TEXTS, sequences=1)
    with temporary_base(checkpoint, evaluation) as base, pytest.raises(MismatchedModels, match=next(iter(change))):
        compare_artifact(world.artifact("int8"), base)


@pytest.mark.parametrize("option", [{"sequences": 0}, {"bins": 0}, {"longest": 1}, {"seed": -1}, {"sequences": True}])
def test_impossible_options_are_refused(world: World, option: dict[str, Any]) -> None:
    with pytest.raises(InvalidOption, match=next(iter(option))):
        world.compare("int8", **option)


def test_without_torch_the_extra_is_named(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dream_edge_export.checkpoint.checkpoint", None)
    with pytest.raises(MissingExtra, match=r"dream-edge\[export\]"):
        dream_edge.compare(world.artifact("int8").path, reference=world.checkpoint.path)


@pytest.fixture
def run_python() -> Callable[[str], str]:
    import subprocess

    def run(program: str) -> str:
        return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout

    return run


def test_importing_needs_no_torch(run_python: Callable[[str], str]) -> None:
    program = "import sys, dream_edge.quality; print('torch' in sys.modules or 'onnx' in sys.modules)"
    assert run_python(program).strip() == "False"


def test_position_zero_reads_its_own_row(world: World) -> None:
    """A text of one token has no other row."""
    found = world.compare("fp32", data=["a"], sequences=3).overall
    assert (found.positions, found.same_top) == (3, 1)
    assert np.isfinite(found.elbo_artifact)
