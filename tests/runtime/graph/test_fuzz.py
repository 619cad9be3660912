"""The checks of a manifest and of a graph, given bytes that nobody wrote."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dream_edge.models import bundled
from dream_edge_runtime.errors import DreamEdgeError
from dream_edge_runtime.format.manifest import Manifest
from dream_edge_runtime.graph.graph_check import check_graph_bytes
from support.artifacts import make_artifact

KNOWN = Manifest.read(bundled("tiny_int8"))
GRAPH = (bundled("tiny_int8") / KNOWN.graphs["cpu"]).read_bytes()
FUZZER = Path(__file__).parents[3] / "tools" / "fuzz" / "fuzz_artifact.py"
SECONDS = 30


@settings(max_examples=60)
@given(
    changes=st.lists(
        st.tuples(st.integers(0, len(GRAPH) - 1), st.integers(0, 6), st.binary(max_size=6)), min_size=1, max_size=4
    )
)
@example(changes=[(0, 6, b"")])
def test_mutated_graph_is_the_planned_one_or_refused(changes: list[tuple[int, int, bytes]]) -> None:
    data = bytearray(GRAPH)
    for position, removed, inserted in changes:
        data[position : position + removed] = inserted
    sizes = {entry.name: entry.size for entry in KNOWN.files}
    try:
        check_graph_bytes(bytes(data), "graph", KNOWN.config, KNOWN.recipe.targets["cpu"], "cpu", sizes)
    except DreamEdgeError as error:
        assert str(error).isprintable()  # noqa: PT017 - both endings are right


@pytest.mark.slow
@pytest.mark.parametrize("target", ["manifest", "graph"])
@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="needs atheris: pip install --group fuzz")
def test_fuzzing_for_half_a_minute_finds_nothing(tmp_path: Path, target: str) -> None:
    artifact = make_artifact(tmp_path, "int8", num_hidden_layers=1).path
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    command = [sys.executable, str(FUZZER), target, str(artifact), str(corpus), f"-max_total_time={SECONDS}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
