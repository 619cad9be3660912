"""What is measured of each matrix, kept, gone on with, and said."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dream_edge.models import TINY, bundled
from dream_edge.quality.errors import MeasurementsUnfit
from dream_edge.quality.sensitivity.effects import COLUMNS, Effect, Sensitivity, parse_format
from dream_edge.quality.sensitivity.measure import Measuring, plan_measuring, recipe_passages
from dream_edge.quality.texts.masking import MaskedPassage
from dream_edge.quality.texts.read import builtin_texts, calibration_texts, tiny_held_out, tiny_training
from dream_edge_export.checkpoint.checkpoint import Checkpoint
from dream_edge_export.reference.model import load_reference
from dream_edge_runtime.format.tensors import EMBEDDING, LM_HEAD, layer_matrices, matrix_shapes

FORMATS = [parse_format(name) for name in ("int4-64", "int8")]


@pytest.fixture(scope="module")
def checkpoint(random_checkpoint: Path) -> Checkpoint:
    return Checkpoint.open(random_checkpoint)


@pytest.fixture(scope="module")
def masked(checkpoint: Checkpoint) -> tuple[MaskedPassage, ...]:
    return recipe_passages(checkpoint, data=["Ants march over the hill.", "No.", "One two three four."], sequences=5)


@pytest.fixture(scope="module")
def measured(checkpoint: Checkpoint, masked: tuple[MaskedPassage, ...]) -> Sensitivity:
    return finished(plan_measuring(checkpoint, masked, FORMATS))


def finished(work: Measuring) -> Sensitivity:
    return [work.known, *work.run()][-1]


def values(found: Sensitivity) -> dict[frozenset[tuple[str, str]], float]:
    return {frozenset(effect.change.items()): effect.kl_mean for effect in found.effects}


def test_every_matrix_every_layer_and_all_together_are_measured(measured: Sensitivity, checkpoint: Checkpoint) -> None:
    assert measured.formats == ["int4-64", "int8"]
    for format_ in measured.formats:
        for name in matrix_shapes(checkpoint.config):
            assert (measured.single(name, format_) is None) == (name == EMBEDDING)
        assert all(measured.layer(index, format_) for index in range(2))
    assert measured.single(EMBEDDING, "int8-128")
    together = [each for each in measured.additivity() if len(each.effect.change) == 15]
    assert [set(each.effect.change.values()) for each in together] == [{"int4-64"}, {"int8"}]


def test_an_effect_is_that_of_a_network_with_one_matrix_replaced(
    checkpoint: Checkpoint, masked: tuple[MaskedPassage, ...]
) -> None:
    """fp16 weights leave activations alone, so that replacing the matrix is all there is to it."""
    found = finished(plan_measuring(checkpoint, masked, [parse_format("fp16")], subsets=0))
    network, changed = load_reference(checkpoint), load_reference(checkpoint)
    name = "model.layers.1.mlp.down_proj"
    weights = changed.state_dict()
    weights[f"{name}.weight"] = weights[f"{name}.weight"].half().float()
    changed.load_state_dict(weights, assign=True)
    sums, sizes = [], []
    with torch.inference_mode():
        for each in masked:
            rows = torch.from_numpy(np.maximum(each.positions - 1, 0))
            p, q = (
                model(torch.from_numpy(each.canvas)[None])[0, rows].double().log_softmax(-1)
                for model in (network, changed)
            )
            sums.append(float((p.exp() * (p - q)).sum()))
            sizes.append(len(rows))
    effect = found.single(name, "fp16")
    assert effect is not None
    mean = sum(sums) / sum(sizes)
    assert effect.kl_mean == pytest.approx(mean, rel=0.02)
    residuals = np.array(sums) - mean * np.array(sizes)
    error = np.sqrt(len(sums) / (len(sums) - 1) * (residuals**2).sum()) / sum(sizes)
    assert effect.kl_mean_se == pytest.approx(error, rel=0.05)


def test_going_on_with_half_of_it_gives_the_same(
    checkpoint: Checkpoint, masked: tuple[MaskedPassage, ...], measured: Sensitivity, tmp_path: Path
) -> None:
    first = next(plan_measuring(checkpoint, masked, FORMATS).run())
    first.write(tmp_path / "half.json")
    work = plan_measuring(checkpoint, masked, FORMATS, known=Sensitivity.read(tmp_path / "half.json"))
    assert 0 < len(work.plan.variants) < len(measured.effects)
    resumed = values(finished(work))
    assert resumed.keys() == values(measured).keys()
    for change, kl in values(measured).items():
        assert resumed[change] == pytest.approx(kl, rel=1e-3, abs=1e-12)


def test_what_is_measured_is_not_measured_again(
    checkpoint: Checkpoint, masked: tuple[MaskedPassage, ...], measured: Sensitivity
) -> None:
    assert plan_measuring(checkpoint, masked, FORMATS, known=measured).plan.variants == []
    more = plan_measuring(checkpoint, masked, [*FORMATS, parse_format("int4-32")], subsets=0, known=measured)
    assert {format_ for change in more.plan.variants for format_ in change.values()} == {parse_format("int4-32")}


def test_measurements_on_other_texts_are_not_gone_on_with(
    checkpoint: Checkpoint, masked: tuple[MaskedPassage, ...], measured: Sensitivity
) -> None:
    work = plan_measuring(checkpoint, masked[:-1], FORMATS, known=measured)
    assert work.known.effects == ()


def test_sums_stand_beside_what_was_measured_together(measured: Sensitivity) -> None:
    for each in measured.additivity():
        parts = [measured.single(*item) for item in each.effect.change.items()]
        assert each.sum == pytest.approx(sum(part.kl_mean for part in parts if part))
        assert each.ratio == pytest.approx(each.effect.kl_mean / each.sum)


def test_a_file_holds_everything(measured: Sensitivity, tmp_path: Path) -> None:
    measured.write(tmp_path / "s.json")
    assert Sensitivity.read(tmp_path / "s.json") == measured
    assert [file.name for file in tmp_path.iterdir()] == ["s.json"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"schema": 2}',
        '{"schema": 1, "effects": [{"change": {}, "kl_mean": 0, "kl_mean_se": 0}]}',
        '{"schema": 1, "effects": [{"change": {"a": "int4-128"}, "kl_mean": NaN, "kl_mean_se": 0}]}',
        '{"schema": 1, "effects": [{"change": {"a": "int3"}, "kl_mean": 0, "kl_mean_se": 0}]}',
        "[" * 100_000,
    ],
)
def test_files_of_anything_else_are_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text(text, "utf-8")
    with pytest.raises(MeasurementsUnfit, match=r"s\.json"):
        Sensitivity.read(tmp_path / "s.json")


def test_a_field_too_many_is_refused(measured: Sensitivity, tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text(json.dumps({**measured.to_dict(), "extra": 1}), "utf-8")
    with pytest.raises(MeasurementsUnfit):
        Sensitivity.read(tmp_path / "s.json")


def test_losses_are_those_of_single_matrices(measured: Sensitivity, checkpoint: Checkpoint) -> None:
    found = measured.losses(checkpoint.config, Path("s.json"))
    effect = measured.single(LM_HEAD, "int8")
    assert effect is not None
    assert found[LM_HEAD][parse_format("int8")] == effect.kl_mean
    with pytest.raises(MeasurementsUnfit, match="not measured"):
        replace(measured, effects=(Effect({LM_HEAD: "int8"}, 1.0, 0.0),)).losses(checkpoint.config, Path("s.json"))


def test_a_layer_has_seven_matrices(checkpoint: Checkpoint) -> None:
    names = [name for name in matrix_shapes(checkpoint.config) if ".layers.1." in name]
    assert layer_matrices(1) == names


def test_the_tiny_model_is_not_measured_on_what_it_is_judged_by() -> None:
    trained, held_out = tiny_training(), tiny_held_out()
    assert not set(map(repr, trained)) & set(map(repr, held_out))
    tiny = Checkpoint.open(bundled(TINY))
    found = recipe_passages(tiny, sequences=12)
    assert len(found) == 12
    assert all(len(each.positions) for each in found)


def test_other_checkpoints_are_not_measured_on_what_they_are_judged_by(checkpoint: Checkpoint) -> None:
    assert not set(map(repr, calibration_texts())) & set(map(repr, builtin_texts()))
    assert len(recipe_passages(checkpoint, sequences=3)) == 3


def test_masks_are_those_of_the_seed(checkpoint: Checkpoint) -> None:
    texts = ["Ants march over the hill.", "One two three four."]
    one, same, other = (recipe_passages(checkpoint, data=texts, sequences=4, seed=seed) for seed in (1, 1, 2))
    assert all((a.canvas == b.canvas).all() for a, b in zip(one, same, strict=True))
    assert any(
        a.canvas.shape != b.canvas.shape or (a.canvas != b.canvas).any() for a, b in zip(one, other, strict=True)
    )


def test_the_heat_map_has_a_row_for_each_layer_and_the_whole_layer_last(measured: Sensitivity) -> None:
    found = next(each for each in measured.heat_maps() if each.format == "int4-64")
    assert [len(row) for row in found.rows] == [len(COLUMNS)] * 2
    down, whole = measured.single("model.layers.1.mlp.down_proj", "int4-64"), measured.layer(0, "int4-64")
    assert down is not None
    assert whole is not None
    assert found.rows[1][COLUMNS.index("down")] == down.kl_mean
    assert found.rows[0][COLUMNS.index("layer")] == whole.kl_mean
    alone = replace(measured, effects=tuple(each for each in measured.effects if len(each.change) == 1))
    assert [row[-1] for row in alone.heat_maps()[0].rows] == [None, None]
