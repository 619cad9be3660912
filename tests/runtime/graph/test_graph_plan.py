"""The runtime's plan of the graph against the graphs that the exporter builds."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from dream_edge_export.checkpoint.checkpoint import Checkpoint
from dream_edge_export.export import export
from dream_edge_runtime.artifact import Artifact
from dream_edge_runtime.format.recipe import SCHEMES, Formats, Recipe, WeightFormat
from dream_edge_runtime.graph.graph_plan import GraphPlan
from dream_edge_runtime.graph.onnx_reader import Constant, read_onnx
from support.checkpoints import write_checkpoint
from support.networks import small_config


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_exported_graph_is_the_planned_one(tmp_path: Path, scheme: str) -> None:
    write_checkpoint(tmp_path / "checkpoint")
    target = "cpu" if scheme == "fp32" else "all"
    recipe = Recipe.for_scheme(scheme, target=target, layers=2)
    artifact = export(Checkpoint.open(tmp_path / "checkpoint"), tmp_path / "artifact", recipe)
    for each, name in Artifact.open(artifact.path).manifest.graphs.items():
        graph = read_onnx((artifact.path / name).read_bytes())
        plan = GraphPlan(artifact.manifest.config, recipe.targets[each], each)
        assert sum(node.operator != "Constant" for node in graph.nodes) == plan.nodes


def test_rotary_frequencies_may_differ_in_the_last_bit() -> None:
    config = small_config()
    floats = WeightFormat(kind="float")
    plan = GraphPlan(config, Formats(body=floats, embedding=floats, lm_head=floats), "cpu")
    exact = np.array([1 / config.rope_theta ** (2 * i / config.head_dim) for i in range(config.head_dim // 2)], "<f4")
    nearby = np.nextafter(exact, np.float32(math.inf), dtype=np.float32)
    numbers = {plan.constant(Constant("float32", exact.shape, each.tobytes())) for each in (exact, nearby)}
    assert len(numbers) == 1
    assert None not in numbers
    for wrong in (exact * np.float32(1.001), np.full_like(exact, np.nan)):
        assert plan.constant(Constant("float32", exact.shape, wrong.tobytes())) is None
