"""What a verb is given, and what the system refuses: errors with a remedy, for every verb."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dream_edge
from dream_edge import door
from dream_edge.door import SystemRefusal
from dream_edge_runtime.errors import ArtifactNotFound, DreamEdgeError, InvalidOption

VERBS = (
    "batch bench compare export info load pull resolve_artifact resolve_checkpoint score sensitivity sweep verify"
).split()
LONG = "x" * 5000


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("wrong", [None, 7, b"tiny", object()])
def test_name_that_is_neither_text_nor_a_path_is_refused(verb: str, wrong: object) -> None:
    given = {"batch": ["a", "b"], "export": ["out"]}.get(verb, [])
    named = {"scheme": "int8"} if verb == "export" else {}
    with pytest.raises(InvalidOption, match=r"must be str") as refused:
        getattr(dream_edge, verb)(wrong, *given, **named)
    assert refused.value.value is wrong


@pytest.mark.parametrize("verb", ["bench", "compare", "info", "load", "sweep", "verify", "resolve_artifact"])
def test_name_that_no_file_system_takes_is_refused(verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    named = {"reference": LONG} if verb == "compare" else {}
    with pytest.raises(DreamEdgeError, match="xxx"):  # by newer Pythons it is just not there
        getattr(dream_edge, verb)(LONG, **named)
    with pytest.raises(InvalidOption, match="NUL"):
        getattr(dream_edge, verb)("a\0b")


CASES: dict[str, tuple[Callable[..., object], dict[str, Any], str]] = {
    "text for a number": (dream_edge.export, {"block_size": "32"}, "block_size='32'"),
    "a number for text": (dream_edge.export, {"scheme": 4}, "scheme=4"),
    "true for a number": (dream_edge.load, {"threads": True}, "threads=True"),
    "a part for a number": (dream_edge.bench, {"repeats": 2.5}, r"repeats=2\.5"),
    "text for several": (dream_edge.sweep, {"schemes": "int4"}, "schemes='int4'"),
    "numbers for texts": (dream_edge.sweep, {"schemes": [4]}, r"schemes=\[4\]"),
    "one for several": (dream_edge.bench, {"canvases": 64}, "canvases=64"),
    "a number for a switch": (dream_edge.load, {"verify": "no"}, "verify='no'"),
    "what cannot be called": (dream_edge.load, {"progress": 3}, "progress=3"),
}


@pytest.mark.parametrize("case", CASES)
def test_argument_of_a_wrong_type_is_an_invalid_option(case: str) -> None:
    verb, named, match = CASES[case]
    given = ["tiny", "out"] if verb is dream_edge.export else ["tiny"]
    with pytest.raises(InvalidOption, match=match):
        verb(*given, **({"scheme": "int8"} if verb is dream_edge.export else {}) | named)


def test_numbers_of_numpy_are_numbers() -> None:
    def verb(whole: int, share: float) -> float:
        return whole * share

    numbers: tuple[Any, Any] = np.int64(2), np.float32(0.5)
    assert door.guard(verb)(*numbers) == 1
    assert door.guard(verb)(2, 1) == 2


def test_verbs_keep_their_names_help_and_errors() -> None:
    assert dream_edge.load.__name__ == "load"
    assert "Load an artifact" in (dream_edge.load.__doc__ or "")
    with pytest.raises(ArtifactNotFound):
        dream_edge.load("./not-there")
    with pytest.raises(TypeError, match="thread"):
        dream_edge.load("tiny", thread=2)  # type: ignore[call-arg]


def test_what_the_system_refuses_in_a_verb_names_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbid(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_file", forbid)  # a directory above it may not be searched
    with pytest.raises(SystemRefusal, match=r"secret.*: Permission denied\. Check the name") as refused:
        dream_edge.load("/home/other/secret")
    assert isinstance(refused.value.__cause__, PermissionError)


def test_every_declared_type_is_checked() -> None:
    for verb in VERBS:
        assert Any not in door._types(getattr(dream_edge, verb).__wrapped__).values(), verb


def test_version_of_a_source_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", absent)
    assert dream_edge.__version__ == "0+uninstalled"
