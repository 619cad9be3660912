"""The house has floors: no module imports itself by a detour, and no room one that stands above it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {
    "dream_edge_runtime": ROOT / "runtime" / "dream_edge_runtime",
    "dream_edge_export": ROOT / "export" / "dream_edge_export",
    "dream_edge": ROOT / "dream_edge",
}

FLOORS = """
    dream_edge_runtime.chat_format
    dream_edge_runtime.arrays dream_edge_runtime.errors dream_edge_runtime.progress dream_edge_runtime.units
    dream_edge_runtime.files dream_edge_runtime.host
    dream_edge_runtime.text dream_edge_runtime.format
    dream_edge_runtime.constraint
    dream_edge_runtime.graph
    dream_edge_runtime.artifact
    dream_edge_runtime.requantize
    dream_edge_runtime.inference
    dream_edge_runtime.generation
    dream_edge_runtime.model

    dream_edge_export.errors
    dream_edge_export.checkpoint
    dream_edge_export.reference
    dream_edge_export.quantize
    dream_edge_export.card dream_edge_export.output
    dream_edge_export.plan
    dream_edge_export.announcement
    dream_edge_export.export

    dream_edge.door dream_edge.hub
    dream_edge.models
    dream_edge.openai dream_edge.tasks
    dream_edge.quality
    dream_edge.comparing dream_edge.scoring
    dream_edge.exporting dream_edge.sweeping dream_edge.description
    dream_edge.batches dream_edge.server dream_edge.evaluation dream_edge.benchmark
    dream_edge.recommendation
    dream_edge
    dream_edge.cli
    dream_edge.__main__
"""
"""Rooms, and the modules beside them, from the ground up. What stands on one line knows nothing of each other."""

HEIGHT = {room: height for height, line in enumerate(FLOORS.split("\n")) for room in line.split()}


@cache
def modules() -> dict[str, Path]:
    found = {}
    for package, folder in PACKAGES.items():
        for path in folder.rglob("*.py"):
            parts = path.relative_to(folder).with_suffix("").parts
            found[".".join((package, *(parts[:-1] if parts[-1] == "__init__" else parts)))] = path
    return found


def room(module: str) -> str:
    return ".".join(module.split(".")[:2])


def imports(module: str) -> Iterator[str]:
    """Our modules that it imports: at the top, within functions, and for type checkers."""
    path = modules()[module]
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*above, *(node.module or "").split(".")]).strip(".")
            names = [deeper if (deeper := f"{origin}.{alias.name}") in modules() else origin for alias in node.names]
        else:
            continue
        yield from (name for name in names if name in modules() and name != module)


def test_no_module_imports_itself_by_a_detour() -> None:
    order = TopologicalSorter({module: set(imports(module)) for module in modules()})
    try:
        order.prepare()
    except CycleError as error:
        pytest.fail(" → ".join(reversed(error.args[1])))


def test_every_room_has_its_floor() -> None:
    assert {room(module) for module in modules()} - {"dream_edge_runtime", "dream_edge_export"} == HEIGHT.keys()


def test_no_room_imports_one_that_stands_above_it() -> None:
    up = [
        f"{module} → {found}"
        for module in modules()
        for found in imports(module)
        if room(module) != room(found) and HEIGHT.get(room(found), -1) >= HEIGHT.get(room(module), -1)
    ]
    assert up == []
