"""Bad artifacts, each refused by `load` with a typed error that names the file, quickly, in little memory, and before
ONNX Runtime sees a byte.

All are loaded by one other process, whose peak memory is thus an upper bound for each.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dream_edge.models import bundled
from support import bad_files, judge
from support.artifacts import GRAPH, WEIGHTS, change_manifest

SECONDS, MEGABYTES = 2.0, 300


def manifest(change: Callable[[dict[str, Any]], object]) -> bad_files.Damage:
    def damage(artifact: Path) -> str:
        change_manifest(artifact, change)
        return "manifest.json"

    return damage


def model(**values: object) -> bad_files.Damage:
    return manifest(lambda document: document["model"].update(values))


def form(part: str, **values: object) -> bad_files.Damage:
    return manifest(lambda document: document["recipe"]["targets"]["cpu"][part].update(values))


def weights_of_another(**values: object) -> bad_files.Damage:
    """A manifest that is right in itself, but not for its weights."""
    return lambda artifact: str(model(**values)(artifact) and WEIGHTS)


def raw_manifest(change: Callable[[bytes], bytes]) -> bad_files.Damage:
    def damage(artifact: Path) -> str:
        path = artifact / "manifest.json"
        path.write_bytes(change(path.read_bytes()))
        return path.name

    return damage


MANIFESTS: dict[str, bad_files.Damage] = {
    "newer_schema": manifest(lambda document: document.update(schema="1.9")),
    "other_major": manifest(lambda document: document.update(schema="2.0")),
    "no_graph_revision": manifest(lambda document: document.pop("graph_revision")),
    "graph_revision_is_no_number": manifest(lambda document: document.update(graph_revision="1")),
    "graph_revision_is_negative": manifest(lambda document: document.update(graph_revision=-1)),
    "unknown_scheme": manifest(lambda document: document["recipe"].update(scheme="int3")),
    "unknown_target": manifest(lambda document: document.update(graphs={"tpu": GRAPH})),
    "block_size_does_not_fit": form("embedding", block_size=100),
    "bits_do_not_fit": form("body", bits=4),
    "recipe_of_other_weights": lambda artifact: str(form("lm_head", kind="float", bits=32)(artifact) and WEIGHTS),
    "override_of_no_matrix": manifest(
        lambda document: document["recipe"]["targets"]["cpu"].update(
            overrides={"lm_head": {"kind": "float", "bits": 32, "block_size": 0, "symmetric": True}}
        )
    ),
    "wrong_vocabulary_size": weights_of_another(vocab_size=2048),
    "wrong_number_of_layers": weights_of_another(num_hidden_layers=4),
    "many_layers": weights_of_another(num_hidden_layers=4096),
    "mask_outside_the_vocabulary": model(mask_token_id=5000),
    "huge_hidden_size": model(hidden_size=1 << 40),
    "huge_integer": raw_manifest(lambda data: data.replace(b'"hidden_size":256', b'"hidden_size":' + b"9" * 500_000)),
    "many_huge_integers": raw_manifest(
        lambda data: data.replace(
            b'"provenance":{', b'"provenance":{"x":[' + b"9" * 4000 + (b"," + b"9" * 4000) * 200 + b"],"
        )
    ),
    "nested_manifest": raw_manifest(lambda _: b'{"a":' * 150_000),
    "manifest_too_large": raw_manifest(lambda data: data + b" " * (1 << 20)),
    "manifest_with_spaces": raw_manifest(lambda data: data.replace(b",", b", ")),
    "duplicate_key": raw_manifest(lambda data: data.replace(b'"license"', b'"license":null,"license"')),
    "lone_surrogate": raw_manifest(lambda data: data.replace(b"apache", b"\\ud800")),
    "not_a_number": raw_manifest(lambda data: data.replace(b"1e-06", b"NaN")),
    "infinite_number": raw_manifest(lambda data: data.replace(b"1e-06", b"1e999")),
    "generation_out_of_range": manifest(lambda document: document["generation"].update(temperature=-1)),
    **{
        f"name_{label}": manifest(lambda document, name=name: document["files"][-1].update(name=name))  # type: ignore[misc]
        for label, name in {
            "outside": "../weights-00001.bin",
            "absolute": "/etc/passwd",
            "of_a_device": "NUL.bin",
            "in_another_case": "MODEL_CPU.onnx",
            "hidden": ".netrc",
        }.items()
    },
    "digest_is_short": manifest(lambda document: document["files"][0].update(sha256="00")),
    "file_size_is_wrong": lambda artifact: str(
        manifest(lambda document: document["files"][0].update(size=1))(artifact) and "model_cpu.onnx"
    ),
}

CASES: dict[str, bad_files.Damage] = {
    **bad_files.FILES,
    **bad_files.TOKENIZERS,
    **bad_files.VALUES,
    **MANIFESTS,
}

Judge = Callable[[Path], dict[str, Any]]


@pytest.fixture(scope="module")
def load_elsewhere() -> Iterator[Judge]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with subprocess.Popen(
        [sys.executable, str(judge.__file__)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def ask(path: Path) -> dict[str, Any]:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(f"{path}\n")
            process.stdin.flush()
            answer: dict[str, Any] = json.loads(process.stdout.readline())
            return answer

        yield ask
        process.stdin.close()


def test_the_undamaged_artifact_gets_as_far_as_onnx_runtime(load_elsewhere: Judge) -> None:
    answer = load_elsewhere(bundled("tiny_int8"))
    assert answer["message"] == "a bad artifact reached ONNX Runtime"


@pytest.mark.parametrize("case", CASES)
def test_bad_artifact_is_refused(tmp_path: Path, load_elsewhere: Judge, case: str) -> None:
    artifact = bad_files.copy(bundled("tiny_int8"), tmp_path / case)
    named = CASES[case](artifact)
    answer = load_elsewhere(artifact)
    assert answer["typed"], f"{answer['kind']}: {answer['message']}"
    assert named in answer["message"]
    assert answer["message"].isprintable()
    assert len(answer["message"]) < 1000
    assert answer["seconds"] < SECONDS
    assert answer["waited"] < 20 * SECONDS  # not for a pipe, nor for a device
    assert answer["peak"] < MEGABYTES


def test_there_are_at_least_sixty_kinds() -> None:
    assert len(CASES) >= 60
