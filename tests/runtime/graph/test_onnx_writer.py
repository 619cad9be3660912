"""Graphs written by the runtime, against its reader and the exporter's graphs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dream_edge_runtime.graph.onnx_reader import Constant, Initializer, Node, OnnxGraph, Port, read_onnx
from dream_edge_runtime.graph.onnx_writer import write_onnx
from dream_edge_runtime.graph.plan_writer import write_planned
from support.artifacts import GRAPH, make_artifact
from support.graphs import Graph


def test_what_is_written_is_read_again() -> None:
    graph = OnnxGraph(
        ir_version=11,
        opsets={"": 23, "com.microsoft": 1},
        nodes=[
            Node("a", "", "Add", ("x", "w"), ("y",), {}),
            Node("b", "com.microsoft", "Odd", ("y", ""), ("z", "q"), {"i": -3, "f": 0.5, "many": (1, -1, 300)}),
            Node("c", "", "Constant", (), ("k",), {"value": Constant("int64", (2,), bytes(16))}),
        ],
        inputs=[Port("x", "float32", ("rows", 4))],
        outputs=[Port("z", "float16", (1,))],
        initializers=[
            Initializer("w", "int8", (200, 3), "weights.bin", 1 << 33, 600),
            Initializer("scalar", "float32", (), data=b"\0\0\0\1"),
        ],
        declared=[Port("y", "bool", ())],
    )
    assert read_onnx(write_onnx(graph, producer="somebody", name="something")) == graph


@pytest.mark.parametrize("scheme", ["int8", "int4", "mixed", "nf4", "fp32"])
def test_planned_graph_computes_what_the_exported_one_does(tmp_path: Path, scheme: str) -> None:
    made = make_artifact(tmp_path, scheme)
    ids = np.arange(10).reshape(2, 5)
    valid = np.ones((2, 5), bool)
    expected = Graph(made).full_pass(ids, valid, temperature=0.7)
    config, formats = made.manifest.config, made.manifest.recipe.targets["cpu"]
    exported = read_onnx((made.path / GRAPH).read_bytes())
    weights = [item for item in exported.initializers if item.location is not None]
    (made.path / GRAPH).write_bytes(write_planned(config, formats, "cpu", weights))
    found = Graph(made).full_pass(ids, valid, temperature=0.7)
    assert found.keys() == expected.keys()
    assert all((found[name] == expected[name]).all() for name in expected)
