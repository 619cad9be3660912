"""Many sequences through the network, a layer at a time: against the network that is loaded whole."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dream_edge_export.checkpoint.checkpoint import Checkpoint
from dream_edge_export.reference import layerwise, staged
from dream_edge_export.reference.model import Layer, load_reference
from dream_edge_export.reference.staged import StagedReference
from support.checkpoints import write_checkpoint

GEOMETRIES: dict[str, dict[str, Any]] = {
    "fp32": {},
    "bf16_in_shards": {"dtype": torch.bfloat16, "shards": 3, "num_hidden_layers": 3},
    "tied": {"tie_word_embeddings": True},
    "ratio_of_7b": {"hidden_size": 112, "intermediate_size": 592, "num_attention_heads": 7, "num_key_value_heads": 1},
}


def make(directory: Path, **geometry: Any) -> StagedReference:
    """Sequences of several lengths, one of a single token."""
    config = write_checkpoint(directory / "checkpoint", **geometry)
    rng = np.random.default_rng(3)
    sequences = [rng.integers(config.vocab_size, size=length) for length in (9, 1, 40, 17)]
    rows = [np.sort(rng.permutation(len(ids))[: 1 + len(ids) // 3]) for ids in sequences]
    (directory / "work").mkdir()
    return StagedReference(Checkpoint.open(directory / "checkpoint"), sequences, rows, directory / "work")


def run(reference: StagedReference, first: int = 0) -> np.ndarray[Any, Any]:
    for stage in range(first, reference.stages):
        reference.run(stage)
        reference.forget(stage)
    return np.concatenate([*reference.logits()])


def loaded_logits(reference: StagedReference) -> np.ndarray[Any, Any]:
    network = load_reference(reference.checkpoint)
    with torch.inference_mode():
        hidden = torch.cat(
            [
                network.model(torch.from_numpy(ids)[None])[0, torch.from_numpy(rows)]
                for ids, rows in zip(reference.sequences, reference.rows, strict=True)
            ]
        )
        found: np.ndarray[Any, Any] = network.lm_head(hidden).numpy()
    return found


@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
def test_streamed_logits_are_the_bits_of_the_loaded_network(tmp_path: Path, geometry: dict[str, Any]) -> None:
    reference = make(tmp_path, **geometry)
    assert np.array_equal(run(reference), loaded_logits(reference))


def test_logits_come_some_rows_at_a_time_and_from_any_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = make(tmp_path)
    whole = run(reference)
    monkeypatch.setattr(staged, "LARGEST_LOGITS", 7 * 4 * reference.checkpoint.config.vocab_size)
    parts = [*reference.logits()]
    assert [len(part) for part in parts] == [7, 7, 7, 4]
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-5)
    np.testing.assert_array_equal(np.concatenate([*reference.logits(14)]), np.concatenate(parts[2:]))


@pytest.mark.parametrize("stage", range(4))
def test_a_stage_that_was_killed_is_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: int) -> None:
    """Killed in the middle of its sequences: nothing takes its file's name, and the stage before is still there."""
    reference = make(tmp_path)
    expected = run(reference)
    for file in reference.directory.iterdir():
        file.unlink()
    for earlier in range(stage):
        reference.run(earlier)
        reference.forget(earlier)
    states = StagedReference._states

    def killed(self: StagedReference, stage: int) -> Iterator[torch.Tensor]:
        for index, state in enumerate(states(self, stage)):
            if index == 2:
                raise KeyboardInterrupt
            yield state

    with monkeypatch.context() as patched:
        patched.setattr(StagedReference, "_states", killed)
        with pytest.raises(KeyboardInterrupt):
            reference.run(stage)
    assert not reference.is_there(stage)
    assert stage == 0 or reference.is_there(stage - 1)
    np.testing.assert_array_equal(run(reference, stage), expected)


def test_one_layer_is_in_memory_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = make(tmp_path, num_hidden_layers=4)
    layers: list[weakref.ref[Layer]] = []
    load = layerwise.load_layer

    def noted(checkpoint: Checkpoint, index: int) -> Layer:
        assert all(layer() is None for layer in layers)
        layers.append(weakref.ref(layer := load(checkpoint, index)))
        return layer

    monkeypatch.setattr(staged, "load_layer", noted)
    run(reference)
    assert len(layers) == 4


def test_two_stages_are_on_disk_at_a_time(tmp_path: Path) -> None:
    reference = make(tmp_path, num_hidden_layers=3)
    for stage in range(reference.stages - 1):
        reference.run(stage)
        sizes = [file.stat().st_size for file in reference.directory.iterdir()]
        assert sizes == [reference.file_bytes] * min(2, stage + 1)
        reference.forget(stage)


def test_progress_runs_from_nothing_to_all(tmp_path: Path) -> None:
    reference = make(tmp_path)
    seen: list[float] = []
    for stage in range(reference.stages):
        reference.run(stage, seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == reference.work_before(reference.stages) == 2
    assert reference.work_before(reference.stages, reference.row_count) == pytest.approx(reference.work)
    assert reference.work > 2
