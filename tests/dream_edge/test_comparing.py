"""`compare`, `sweep` and `sensitivity` as functions: what the command line calls, called from Python."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

import dream_edge
from dream_edge.quality.errors import MeasurementsUnfit, NoData, UnreadableData
from dream_edge.quality.sensitivity.measure import recipe_passages
from dream_edge_export.checkpoint.checkpoint import Checkpoint
from dream_edge_runtime.errors import InvalidOption
from dream_edge_runtime.progress import Progress

TEXTS = ["The quick brown fox jumps over the lazy dog.", "Ants march over the hill."]


def test_artifacts_are_compared_in_their_order_and_predictions_kept(
    random_artifact: Path, random_checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "dream_edge")
    seen: list[Progress] = []
    base = tmp_path / "a.base"
    found = dream_edge.compare(
        [random_artifact, str(random_artifact)],
        reference=random_checkpoint,
        save_base=base,
        data=TEXTS,
        sequences=3,
        trajectory=False,
        progress=seen.append,
    )
    assert [each.artifact for each in found] == [random_artifact.name] * 2
    assert found[0].to_dict() == found[1].to_dict()
    assert list(dict.fromkeys((each.task, each.unit) for each in seen)) == [
        ("computing the reference", "layers"),
        ("measuring the noise floor", "layers"),
        (f"comparing {random_artifact.name}", "passes"),
    ]
    assert seen[-1].share == 1
    assert "3 masked texts" in caplog.text
    assert str(base) in caplog.text
    assert dream_edge.compare(random_artifact, base=base)[0].to_dict() == found[0].to_dict()


def test_a_path_among_texts_is_a_file_of_them(random_artifact: Path, random_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text(TEXTS[1], "utf-8")
    given: list[list[str | Path]] = [[*TEXTS], [TEXTS[0], tmp_path / "one.txt"]]
    one, other = (
        dream_edge.compare(
            random_artifact, reference=random_checkpoint, data=data, sequences=2, noise_floor=False, trajectory=False
        )
        for data in given
    )
    assert one[0].to_dict() == other[0].to_dict()
    with pytest.raises(UnreadableData):
        dream_edge.compare(random_artifact, reference=random_checkpoint, data=[tmp_path / "none.txt"])
    with pytest.raises(NoData):
        dream_edge.compare(random_artifact, reference=random_checkpoint, data=[])


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({}, "reference"),
        ({"artifacts": [], "reference": "nowhere"}, "artifacts"),
        ({"base": "a.base", "sequences": 3}, "sequences"),
        ({"base": "a.base", "data": TEXTS}, "data"),
        ({"base": "a.base", "save_base": "b.base"}, "save_base"),
        ({"base": "a.base", "tasks": ["sudoku"]}, "tasks"),
        ({"reference": "nowhere", "trajectory": False, "steps": [3]}, "steps"),
        ({"reference": "nowhere", "trajectory": False, "algorithms": ["entropy"]}, "algorithms"),
    ],
)
def test_options_that_contradict_each_other_are_refused_before_anything_is_opened(
    options: dict[str, object], name: str
) -> None:
    with pytest.raises(InvalidOption, match=f"^{name}="):
        dream_edge.compare(**{"artifacts": "nowhere", **options})  # type: ignore[arg-type]


@pytest.mark.parametrize("option", [{"schemes": []}, {"memory": -1}, {"memory": 0}, {"memory": "8GB"}])
def test_a_sweep_of_nothing_or_for_no_memory_is_refused(option: dict[str, object]) -> None:
    with pytest.raises(InvalidOption, match=f"^{next(iter(option))}="):
        dream_edge.sweep("nowhere", **option)  # type: ignore[arg-type]


def test_a_sweep_says_what_each_scheme_costs_and_takes(random_checkpoint: Path, tmp_path: Path) -> None:
    found = dream_edge.sweep(
        random_checkpoint,
        schemes=["int8", "int4-32", "int8"],
        out=tmp_path,
        memory=1 << 40,
        data=TEXTS,
        sequences=2,
        trajectory=False,
    )
    assert [entry.name for entry in found.entries] == ["int8", "int4-32"]
    assert found.entries[0].size > found.entries[1].size
    assert found.advice is not None
    assert found.advice.needed == {entry.name: entry.memory for entry in found.entries}
    assert found.to_dict()["recommended"] == found.advice.chosen


def test_sensitivities_are_kept_and_not_measured_twice(
    random_checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "dream_edge")
    seen: list[Progress] = []
    kept = tmp_path / "s.json"

    def measure(seed: int) -> dream_edge.Sensitivity:
        return dream_edge.sensitivity(
            random_checkpoint,
            formats=["int8-128"],
            out=kept,
            data=TEXTS,
            sequences=2,
            longest=8,
            seed=seed,
            progress=seen.append,
        )

    found = measure(0)
    assert (seen[-1].task, seen[-1].unit, seen[-1].share) == ("measuring", "passes", 1)
    seen.clear()
    assert measure(0) == found == dream_edge.Sensitivity.read(kept)
    assert not seen
    assert "0 changes to measure" in caplog.text
    with pytest.raises(MeasurementsUnfit, match="another seed"):
        measure(1)


@pytest.mark.parametrize("option", [{"sequences": 0}, {"longest": 1}, {"seed": -1}])
def test_impossible_numbers_of_masked_texts_are_refused(random_checkpoint: Path, option: dict[str, int]) -> None:
    with pytest.raises(InvalidOption, match=next(iter(option))):
        recipe_passages(Checkpoint.open(random_checkpoint), data=TEXTS, **option)
