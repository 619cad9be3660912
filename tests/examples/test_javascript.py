"""The loop in JavaScript finds Python's tokens. Needs Node.js and npm, which fetches onnxruntime-node."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

import dream_edge
from dream_edge_export.checkpoint.checkpoint import Checkpoint
from dream_edge_export.export import export
from dream_edge_runtime.format.recipe import Recipe
from support.family import FAMILY, write_family_checkpoint

pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).parents[2] / "examples" / "javascript"
QUESTIONS = (
    "What is the opposite of hot?",
    "What sound does the dog make?",
    "Where does a frog live?",
    "What is two plus three?",
    "How many legs does a spider have?",
    "abc",
)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("javascript")
    for name in ("package.json", "dream.mjs"):
        shutil.copy(EXAMPLE / name, folder)
    npm = shutil.which("npm")
    assert npm, "install Node.js and npm to test the JavaScript example"
    subprocess.run([npm, "install", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=folder, check=True)
    return folder


@pytest.mark.parametrize("threshold", [0.98, 1.0])
def test_it_finds_the_same_tokens(installed: Path, tmp_path: Path, threshold: float) -> None:
    # in fp32: with int8, the two runtimes may round activations to 7 and to 8 bits
    artifact = export(
        Checkpoint.open(Path(dream_edge.resolve_checkpoint("tiny"))), tmp_path / "fp32", Recipe.for_scheme("fp32")
    )
    model = dream_edge.load(artifact.path, threads=1)
    for question in QUESTIONS:
        expected = model.generate(
            question, max_new_tokens=32, threshold=threshold, algorithm="maskgit_plus", cache="none", stop_at_end=False
        )
        command = ["node", "dream.mjs", str(artifact.path), question, "32", str(threshold)]
        found = json.loads(subprocess.run(command, cwd=installed, check=True, capture_output=True, text=True).stdout)
        assert (found["ids"], found["text"]) == ([*expected.token_ids], expected.text)
        assert found["steps"] == expected.steps


@pytest.mark.parametrize("name", ["bd3lm-Qwen3-0.6B", "bd3lm-Qwen2.5-Coder-0.5B"])
def test_blocks_are_filled_one_after_the_other(installed: Path, tmp_path: Path, name: str) -> None:
    checkpoint = write_family_checkpoint(tmp_path / "checkpoint", **FAMILY[name])
    artifact = export(checkpoint, tmp_path / "fp32", Recipe.for_scheme("fp32"))
    model = dream_edge.load(artifact.path, threads=1)
    expected = model.generate(
        QUESTIONS[0], max_new_tokens=32, threshold=0.9, algorithm="maskgit_plus", stop_at_end=False
    )
    command = ["node", "dream.mjs", str(artifact.path), QUESTIONS[0], "32", "0.9"]
    found = json.loads(subprocess.run(command, cwd=installed, check=True, capture_output=True, text=True).stdout)
    assert found["ids"] == [*expected.token_ids]


def test_the_bundled_artifact_answers(installed: Path) -> None:
    command = ["node", "dream.mjs", str(dream_edge.resolve_artifact("tiny")), QUESTIONS[0], "32"]
    found = json.loads(subprocess.run(command, cwd=installed, check=True, capture_output=True, text=True).stdout)
    assert found["text"] == "The opposite of hot is cold."
