"""Every form of network, compared: the fp32 artifact is the reference, and both are transformers' network."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import dream_edge
from dream_edge.quality import Comparison, Text, build_base, compare_artifact, draw_evaluation
from dream_edge.quality.errors import OtherBase
from dream_edge_export.export import export
from dream_edge_export.reference.model import load_reference
from dream_edge_runtime.format.recipe import Recipe
from support.checkpoints import BLOCK_CAUSAL, write_checkpoint
from support.family import FAMILY, qwen, qwen_logits, write_family_checkpoint

TEXTS: list[Text] = [
    "The quick brown fox jumps over the lazy dog, and the other thing happens in the rain.",
    "Input:\n1000\nOutput:\n1234 and then the other thing",
]
QWEN3 = FAMILY["bd3lm-Qwen3-0.6B"] | {"tie_word_embeddings": False}
QWEN2 = FAMILY["Fast_dLLM_v2_7B"]
FORMS: dict[str, dict[str, Any]] = {
    f"{'qk-norm' if form is QWEN3 else 'biases'}, shift {shift}, {f'blocks of {block}' if block else 'full'}": form
    | {"shift": shift, "causal_block": block}
    for form, shift, block in product((QWEN2, QWEN3), (0, 1), (None, 8))
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_fp32_artifact_and_reference_are_the_network_of_transformers(form: dict[str, Any], tmp_path: Path) -> None:
    """KL below 1e-8 nats, but for the base's 16 bits; the bound on each text's likelihood by the oracle's own rows."""
    checkpoint = write_family_checkpoint(tmp_path / "checkpoint", **form)
    evaluation = draw_evaluation(checkpoint, data=TEXTS, sequences=12, seed=5)
    base = build_base(checkpoint, evaluation, tmp_path / "base")
    artifact = export(checkpoint, tmp_path / "fp32", Recipe.for_scheme("fp32"))
    found = compare_artifact(artifact, base, threads=1)
    assert found.overall.kl_mean < 1e-8
    assert found.overall.same_top == 1
    assert found.causal_block == form["causal_block"]

    oracle, config, bounds = qwen(load_reference(checkpoint)), checkpoint.config, []
    for masked in evaluation.passages:
        ids = torch.from_numpy(masked.canvas)[None]
        logits = qwen_logits(oracle, ids, torch.ones_like(ids, dtype=torch.bool), config.causal_block)[0]
        rows = [at - 1 if config.shift and at else at for at in masked.positions.tolist()]
        log_p = logits[rows].double().log_softmax(-1)[torch.arange(len(rows)), torch.from_numpy(masked.targets)]
        bounds.append(log_p.mean().item())
    assert found.overall.elbo_artifact == pytest.approx(np.mean(bounds), rel=1e-5)
    assert found.overall.elbo_reference == pytest.approx(np.mean(bounds), rel=2e-4)  # 16 bits


# --- the verbs, on a checkpoint of Qwen3's form in blocks ------------------------------------------------------------


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("block-causal") / "checkpoint"
    write_checkpoint(directory, **BLOCK_CAUSAL)
    return directory


def test_what_is_kept_with_a_base_is_of_blocks_too(checkpoint: Path, tmp_path: Path) -> None:
    """The noise floor and trajectories; the report says what was measured."""
    artifact = dream_edge.export(checkpoint, tmp_path / "int8", scheme="int8")
    (found,) = dream_edge.compare(
        artifact.path,
        reference=checkpoint,
        save_base=tmp_path / "base",
        data=TEXTS,
        sequences=8,
        texts=2,
        new_tokens=12,
        steps=[3],
        algorithms=["entropy"],
        report=tmp_path / "report",
        threads=1,
    )
    assert 0 < found.overall.kl_mean < 0.1
    assert found.noise is not None
    assert 0 < found.noise.overall.kl_mean < 0.01
    (figures,) = found.trajectories
    assert (figures.algorithm, figures.steps) == ("entropy", 3)
    assert figures.flips.position is not None
    assert 12 < figures.flips.any.count <= 24  # a random network may propose masks, which settle nothing
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert "masks in one block of 8 that ends each (block-causal attention)" in page
    (again,) = dream_edge.compare(artifact.path, base=tmp_path / "base", threads=1)
    assert again == found


def test_recipes_are_chosen_and_rounded_on_masks_in_blocks(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sweep, sensitivity and calibration all see canvases that end with the block in which their masks are."""
    from dream_edge_export.quantize import calibrate, sensitivity_passes

    seen: list[np.ndarray[Any, Any]] = []
    real_set, real_plan = calibrate.CalibrationSet, sensitivity_passes.SensitivityPlan

    def calibration(name: str, canvases: Any) -> Any:
        seen.extend(canvases)
        return real_set(name, canvases)

    def plan(opened: Any, sequences: Any, variants: Any) -> Any:
        seen.extend(each.ids for each in sequences)
        return real_plan(opened, sequences, variants)

    monkeypatch.setattr(calibrate, "CalibrationSet", calibration)
    monkeypatch.setattr(sensitivity_passes, "SensitivityPlan", plan)
    artifact = dream_edge.export(checkpoint, tmp_path / "int8", scheme="int8", calibrate=True, calibration_sequences=16)
    assert "gptq" in artifact.manifest.recipe.rounding
    calibrated = len(seen)
    assert calibrated == 16
    found = dream_edge.sensitivity(checkpoint, formats=["int8"], data=TEXTS, sequences=4)
    assert len(seen) == calibrated + 4
    assert all(effect.kl_mean > 0 for effect in found.effects)
    mask = artifact.manifest.config.mask_token_id
    for canvas in seen:
        masks = np.flatnonzero(canvas == mask)
        assert masks.size
        assert masks[0] // 8 == (len(canvas) - 1) // 8


def test_sweep_takes_no_artifact_of_another_attention(tmp_path: Path) -> None:
    """The files, and so their digests, are the same: the base that is there is of the other attention too."""
    write_checkpoint(tmp_path / "checkpoint", **BLOCK_CAUSAL)
    file = tmp_path / "checkpoint" / "config.json"
    form = {"architectures": ["A2DQwen3LMHeadModel"], "model_type": "a2d-qwen3"}
    file.write_text(json.dumps({**json.loads(file.read_bytes()), **form}), encoding="utf-8")
    options: dict[str, Any] = {"schemes": ["int8"], "out": tmp_path / "out", "data": TEXTS, "sequences": 4}

    def sweep(attention: str) -> Comparison:
        found = dream_edge.sweep(tmp_path / "checkpoint", attention=attention, force=True, trajectory=False, **options)
        return found.entries[0].comparison

    assert sweep("block-causal:8") == sweep("block-causal:8")
    with pytest.raises(OtherBase):
        sweep("full")
    (tmp_path / "out" / "base").unlink()
    assert sweep("full").causal_block is None
