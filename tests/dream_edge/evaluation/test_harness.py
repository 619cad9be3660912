"""The model `dream-edge` in lm-evaluation-harness: local tasks, run by the harness itself without a network.

Needs the eval extra, which the dev extra does not pull in: pip install -c constraints.txt -e ".[eval]"
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dream_edge
from dream_edge.evaluation.likelihood import enumerate_masks, log_likelihood
from dream_edge_runtime.model import DreamModel
from dream_edge_runtime.text.chat import chat_ids

pytest.importorskip("lm_eval")

TASKS = Path(__file__).parent / "tasks"

PROGRAM = """
import json, sys
import dream_edge.evaluation.harness
from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager

def run(model_args, tasks, **options):
    manager = TaskManager(include_path=".", include_defaults=False)
    found = simple_evaluate("dream-edge", model_args=model_args, tasks=tasks, task_manager=manager, **options)
    return {"results": found["results"], "samples": found["samples"]}

artifact = "artifact=tiny,exact=true,threads=1,mc_samples=300"
texts = ["dream_edge_sudoku", "dream_edge_texts"]
found = {
    "artifact": run(artifact, texts, batch_size=4),
    "chat": run(artifact, ["dream_edge_animals"], apply_chat_template=True),
    "reference": run("reference=tiny,exact=true", ["dream_edge_sudoku"]),
}
with open(sys.argv[1], "w") as file:
    json.dump(found, file, default=str)

from dream_edge.evaluation.__main__ import main
sys.argv = ["lm_eval", "run", "--model", "dream-edge", "--model_args", "artifact=tiny", "--batch_size", "auto"]
sys.argv += ["--tasks", "dream_edge_sudoku", "--include_path", "."]
main()
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], subprocess.CompletedProcess[str]]:
    """The harness in a process of its own, since it sets seeds, logging and environment for all of it."""
    out = tmp_path_factory.mktemp("harness")
    home = {"HF_HOME": str(out / "home"), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    paths = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(out / "found.json")],
        cwd=TASKS,
        env={**os.environ, **home, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (out / "found.json").is_file(), done.stderr
    return json.loads((out / "found.json").read_text("utf-8")), done


@pytest.fixture(scope="module")
def found(program: tuple[dict[str, Any], subprocess.CompletedProcess[str]]) -> dict[str, Any]:
    return program[0]


@pytest.fixture(scope="module")
def tiny() -> DreamModel:
    return dream_edge.load("tiny", threads=1)


def documents(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (TASKS / f"{name}.jsonl").read_text("utf-8").splitlines()]


@pytest.mark.parametrize("side", ["artifact", "reference"])
def test_texts_and_their_score_are_the_models_own(found: dict[str, Any], tiny: DreamModel, side: str) -> None:
    prompts = [f"Input:\n{each['puzzle']}\nOutput:\n" for each in documents("sudoku")]
    texts = [
        tiny.generate(prompt, raw=True, exact=True, temperature=0.0, max_new_tokens=24).text.split("Input")[0]
        for prompt in prompts
    ]
    right = [text == each["grid"] for text, each in zip(texts, documents("sudoku"), strict=True)]
    assert 0 < sum(right) < len(right)
    samples = sorted(found[side]["samples"]["dream_edge_sudoku"], key=lambda sample: sample["doc_id"])
    assert [sample["resps"] for sample in samples] == [[[text]] for text in texts]
    assert found[side]["results"]["dream_edge_sudoku"]["exact_match,none"] == np.mean(right)


def test_choices_are_scored_by_their_bounds_after_the_chat_template(found: dict[str, Any], tiny: DreamModel) -> None:
    chosen = []
    samples = sorted(found["chat"]["samples"]["dream_edge_animals"], key=lambda sample: sample["doc_id"])
    for sample, document in zip(samples, documents("animals"), strict=True):
        question = f"What sound does the {document['animal']} make?"
        prompt = chat_ids(tiny.tokenizer, [{"role": "user", "content": question}])
        answers = [tiny.tokenizer.encode(f"A {document['animal']} {does}.") for does in ("barks", "moos", "meows")]
        bounds = [log_likelihood(tiny.network, prompt, answer, enumerate_masks(len(answer))) for answer in answers]
        assert [float(resps[0][0]) for resps in sample["resps"]] == pytest.approx(bounds, rel=1e-4)
        chosen.append(int(np.argmax(bounds)) == document["right"])
    assert chosen == [True, True, True, False]
    assert found["chat"]["results"]["dream_edge_animals"]["acc,none"] == 0.75


def test_texts_are_scored_in_bits_per_byte(found: dict[str, Any], tiny: DreamModel) -> None:
    texts = [document["text"] for document in documents("texts")]
    bound = 0.0
    for text in texts:
        ids = tiny.tokenizer.encode(text)
        bound += log_likelihood(tiny.network, [tiny.config.bos_token_id], ids, enumerate_masks(len(ids)), batch_size=8)
    expected = -bound / sum(len(text.encode()) for text in texts) / np.log(2)
    assert found["artifact"]["results"]["dream_edge_texts"]["bits_per_byte,none"] == pytest.approx(expected, rel=1e-4)


def test_command_knows_the_model_and_says_what_is_wrong(
    program: tuple[dict[str, Any], subprocess.CompletedProcess[str]],
) -> None:
    done = program[1]
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("Error: batch_size='auto'")
