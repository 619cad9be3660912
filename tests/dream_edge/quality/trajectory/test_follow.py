"""What a base keeps besides predictions: its noise floor and the reference's trajectories."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from dream_edge.cli.app import app
from dream_edge.quality import Base, build_base, compare_artifact, draw_evaluation
from dream_edge.quality.errors import CorruptBase, MismatchedBase
from dream_edge.quality.measure.differences import differences
from dream_edge.quality.measure.figures import measure
from dream_edge.quality.reference.noise import NOISE, noise_floor, with_noise_floor
from dream_edge.quality.texts.read import passages
from dream_edge.quality.trajectory.follow import TRAJECTORIES, trajectories, with_trajectories
from dream_edge.quality.trajectory.path import Trajectory, draw_openings, official
from dream_edge.quality.trajectory.record import record
from dream_edge_export.checkpoint.checkpoint import Checkpoint
from dream_edge_export.export import export
from dream_edge_export.reference.bf16 import round_activations
from dream_edge_export.reference.model import load_reference
from dream_edge_export.reference.networks import ReferenceNetwork
from dream_edge_runtime.artifact import Artifact
from dream_edge_runtime.format.recipe import Recipe
from dream_edge_runtime.generation.config import GenerationConfig
from support.checkpoints import write_checkpoint

TEXTS = ["The quick brown fox jumps over the lazy dog.", "What is the capital of the other country?"]
CONFIGS = [official(GenerationConfig(), algorithm=algorithm, steps=3) for algorithm in ("entropy", "origin")]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    directory = tmp_path_factory.mktemp("extras") / "checkpoint"
    write_checkpoint(directory)
    return Checkpoint.open(directory)


@pytest.fixture(scope="module")
def artifact(checkpoint: Checkpoint) -> Artifact:
    return export(checkpoint, checkpoint.path.parent / "fp32", Recipe.for_scheme("fp32"))


@pytest.fixture(scope="module")
def plain(checkpoint: Checkpoint) -> Base:
    return build_base(checkpoint, draw_evaluation(checkpoint, data=TEXTS, sequences=6), checkpoint.path.parent / "base")


@pytest.fixture
def base(plain: Base, tmp_path: Path) -> Base:
    return Base.open(Path(shutil.copy(plain.path, tmp_path / "a.base")))


def begun(artifact: Artifact, seed: int = 0) -> list:  # type: ignore[type-arg]
    return draw_openings(passages(TEXTS, artifact.tokenizer(), 64), count=2, new_tokens=6, longest=64, seed=seed)


# --- noise floor -----------------------------------------------------------------------------------------------------


def test_noise_floor_is_that_of_the_rounded_network(base: Base, checkpoint: Checkpoint) -> None:
    """Against the same figures from the whole network in memory; the streamed one rounds the residual stream too."""
    kept = noise_floor(with_noise_floor(base, checkpoint))
    exact, network = load_reference(checkpoint), load_reference(checkpoint)
    round_activations(network)
    found = []
    for masked in base.evaluation.passages:
        rows = np.maximum(masked.positions - 1, 0)
        with torch.inference_mode():
            log_p = exact(torch.from_numpy(masked.canvas)[None])[0, rows].double().log_softmax(-1).numpy()
            logits = network(torch.from_numpy(masked.canvas)[None])[0, rows].numpy()
        found.append(differences(log_p, logits, masked.targets))
    expected = measure(found)
    assert kept is not None
    assert 0.5 < kept.overall.kl_mean / expected.kl_mean < 3
    assert kept.overall.elbo_reference == pytest.approx(expected.elbo_reference, abs=1e-3)
    assert (kept.overall.positions, kept.overall.sequences) == (expected.positions, 6)
    assert sum(part.measures.sequences for part in kept.bins) == 6


def test_noise_floor_is_measured_once_and_stands_beside_every_artifact(
    base: Base, checkpoint: Checkpoint, artifact: Artifact
) -> None:
    done: list[float] = []
    with_noise = with_noise_floor(base, checkpoint, progress=lambda now: done.append(now.share))
    assert done == sorted(done)
    assert done[-1] == pytest.approx(1)
    again = with_noise_floor(Base.open(base.path), checkpoint, progress=lambda _: pytest.fail("computed again"))
    assert noise_floor(again) == noise_floor(with_noise)
    found = compare_artifact(artifact, again, threads=1)
    assert found.noise == noise_floor(with_noise)
    assert found.to_dict()["noise_floor"]["overall"]["kl_mean"] > found.overall.kl_mean


def test_another_checkpoint_is_refused(base: Base, tmp_path: Path, artifact: Artifact) -> None:
    write_checkpoint(tmp_path / "other", seed=9)
    other = Checkpoint.open(tmp_path / "other")
    with pytest.raises(MismatchedBase):
        with_noise_floor(base, other)
    with pytest.raises(MismatchedBase):
        with_trajectories(base, other, begun(artifact), CONFIGS)


@pytest.mark.parametrize("value", [3, {}, {"overall": {}, "bins": []}, {"overall": None, "bins": 1}, [1]])
def test_damaged_noise_floor_is_refused(base: Base, value: object) -> None:
    with pytest.raises(CorruptBase, match="noise floor"):
        noise_floor(base.with_extra(NOISE, value))


# --- trajectories ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("held", [True, False])
def test_trajectories_are_those_of_the_reference(
    base: Base, checkpoint: Checkpoint, artifact: Artifact, held: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it stays in memory or is read anew for every pass."""
    monkeypatch.setattr("dream_edge.quality.trajectory.follow.LARGEST_HELD", 1 << 30 if held else 0)
    seen: list[tuple[float, float]] = []
    kept = with_trajectories(
        base, checkpoint, begun(artifact), CONFIGS, progress=lambda now: seen.append((now.done, now.total))
    )
    network = ReferenceNetwork(load_reference(checkpoint))
    for found, config in zip(trajectories(kept), CONFIGS, strict=True):
        expected = record(network, begun(artifact), config)
        assert found.config == config
        for ours, theirs in zip(found.paths, expected.paths, strict=True):
            np.testing.assert_array_equal(ours.final, theirs.final)
            np.testing.assert_array_equal(ours.positions, theirs.positions)
    assert seen[-1][0] <= seen[-1][1] == 6


def test_artifact_that_keeps_the_weights_flips_nothing(base: Base, checkpoint: Checkpoint, artifact: Artifact) -> None:
    kept = with_trajectories(base, checkpoint, begun(artifact), CONFIGS)
    seen: list[tuple[float, float]] = []
    found = compare_artifact(artifact, kept, threads=1, progress=lambda now: seen.append((now.done, now.total)))
    assert [each.algorithm for each in found.trajectories] == ["entropy", "origin"]
    assert all(each.flips.any.value == 0 and each.free_run.diverged.value == 0 for each in found.trajectories)
    assert seen[-1][1] == 6 + 2 * 2 * 3
    assert compare_artifact(artifact, kept, recorded=(), threads=1).trajectories == ()


BAD: dict[str, object] = {
    "no_list": 3,
    "no_config": [{"paths": []}],
    "unknown_option": [{"config": {"colour": 1}, "paths": []}],
    "impossible_option": [{"config": {"steps": -1}, "paths": []}],
    "no_path": [{"config": {}, "paths": [{}]}],
}
DAMAGE: dict[str, dict[str, object]] = {
    "position_outside": {"positions": [99]},
    "position_given": {"positions": [0]},
    "token_outside": {"tokens": [10**6]},
    "token_negative": {"tokens": [-1]},
    "token_huge": {"tokens": [10**30]},
    "unequal": {"steps": [0, 1]},
    "step_negative": {"steps": [-1]},
    "nothing_given": {"start": 0},
    "start_is_text": {"start": "1"},
    "id_outside": {"ids": [5, 10**6]},
    "not_a_list": {"ids": 5},
}
GOOD = {"ids": [5, 6], "start": 1, "positions": [1], "tokens": [7], "steps": [0], "probability": [0.5]}


@pytest.mark.parametrize(
    "value",
    [*BAD.values(), *([{"config": {}, "paths": [{**GOOD, **change}]}] for change in DAMAGE.values())],
    ids=[*BAD, *DAMAGE],
)
def test_damaged_trajectories_are_refused(base: Base, value: object) -> None:
    with pytest.raises(CorruptBase, match="trajectories"):
        trajectories(base.with_extra(TRAJECTORIES, value))


def test_good_trajectory_is_read(base: Base) -> None:
    kept = base.with_extra(TRAJECTORIES, [{"config": {}, "paths": [GOOD]}])
    assert [path.final.tolist() for path in trajectories(kept)[0].paths] == [[5, 7]]
    assert trajectories(base) == ()
    assert isinstance(trajectories(kept)[0], Trajectory)


# --- command line ----------------------------------------------------------------------------------------------------


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [*map(str, arguments)])
    return result.exit_code, result.stdout, result.stderr


def test_compare_measures_both_of_a_small_model_and_keeps_them(
    artifact: Artifact, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    base = tmp_path / "a.base"
    common = ("--sequences", 2, "--texts", 2, "--new-tokens", 5, "--alg", "entropy", "--alg", "origin", "--steps", 2)
    code, made, _ = run(
        "compare", artifact.path, "--reference", checkpoint.path, "--save-base", base, *common, "--json"
    )
    assert code == 0
    document = json.loads(made)
    assert document["noise_floor"]["overall"]["sequences"] == 2
    found = [(each["algorithm"], each["steps"], each["sequences"]) for each in document["trajectories"]]
    assert found == [("entropy", 2, 2), ("origin", 2, 2)]
    code, again, _ = run("compare", artifact.path, "--base", base, "--json")
    assert (code, json.loads(again)) == (0, document)
    code, table, _ = run("compare", artifact.path, "--base", base)
    assert code == 0
    for name in (
        "bf16 noise",
        "Mean PPL(Q)/PPL(base)",
        "99.9%   KLD",
        "RMS     Δp",
        "by chance",
        "entropy, 2: by step",
    ):
        assert name in table
    code, table, _ = run("compare", artifact.path, "--base", base, "--no-trajectory")
    assert (code, "by chance" in table, "bf16 noise" in table) == (0, False, True)


def test_compare_leaves_out_what_is_not_wanted(artifact: Artifact, checkpoint: Checkpoint) -> None:
    options = ("--no-noise-floor", "--no-trajectory", "--sequences", 2, "--json")
    code, made, _ = run("compare", artifact.path, "--reference", checkpoint.path, *options)
    assert code == 0
    assert (json.loads(made)["noise_floor"], json.loads(made)["trajectories"]) == (None, [])


@pytest.mark.parametrize("options", [("--trajectory",), ("--steps", 3), ("--noise-floor",), ("--algorithm", "entropy")])
def test_base_alone_cannot_give_what_it_does_not_keep(
    base: Base, artifact: Artifact, options: tuple[object, ...]
) -> None:
    code, _, stderr = run("compare", artifact.path, "--base", base.path, *options)
    assert code == 2
    assert "--reference" in stderr
    assert str(options[0]) in stderr


def test_contradicting_options_are_refused(artifact: Artifact, checkpoint: Checkpoint) -> None:
    options = ("--no-trajectory", "--steps", 3)
    code, _, stderr = run("compare", artifact.path, "--reference", checkpoint.path, *options)
    assert code == 2
    assert "--steps" in stderr
