"""The trees of errors in the docstrings are those of the classes; errors survive copies and other processes."""

from __future__ import annotations

import copy
import importlib
import inspect
import pickle
import pkgutil
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType

import pytest

import dream_edge
import dream_edge_export
import dream_edge_runtime
from dream_edge_export import errors as export_errors
from dream_edge_runtime import errors as runtime_errors
from dream_edge_runtime.errors import CanvasTooLong, DreamEdgeError


@pytest.mark.parametrize("module", [runtime_errors, export_errors], ids=lambda module: module.__name__)
def test_tree_of_errors_is_that_of_the_classes(module: ModuleType) -> None:
    drawn: dict[str, str] = {}
    branch: list[str] = []
    for line in (module.__doc__ or "").splitlines():
        if drawing := re.match(r" {4}([│├└─ ]*)(?=[A-Z])", line):
            depth, names = len(drawing[1]) // 4, re.findall(r"\b[A-Z]\w+", line)
            drawn |= dict.fromkeys(names, branch[depth - 1] if depth else "Exception")
            branch[depth:] = names[:1]
    classes = [each for each in vars(module).values() if inspect.isclass(each) and each.__module__ == module.__name__]
    assert {each.__name__: each.__bases__[0].__name__ for each in classes}.items() <= drawn.items()
    assert drawn.keys() <= vars(module).keys() | vars(runtime_errors).keys()


SAMPLES = {
    "Path": Path("a") / "b",
    "str": "a text",
    "int": 3,
    "float": 0.5,
    "bool": True,
    "object": ("a", 1),
    "None": None,
    "Sequence[str]": ("a", "b"),
    "Mapping[str, str]": {"a": "b"},
    "Mapping[str, int]": {"a": 1},
    "CanvasTooLong": CanvasTooLong(9, 8),
    "OSError": OSError(28, "No space left on device", "there"),
}


def every_error(root: type[DreamEdgeError] = DreamEdgeError) -> Iterator[type[DreamEdgeError]]:
    for each in root.__subclasses__():
        yield each
        yield from every_error(each)


for package in (dream_edge_runtime, dream_edge_export, dream_edge):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        with suppress(ImportError):  # of an extra that is not installed
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)


@pytest.mark.parametrize("kind", dict.fromkeys(every_error()), ids=lambda kind: kind.__name__)
def test_every_error_survives_pickle_and_copy(kind: type[DreamEdgeError]) -> None:
    taken = [each for each in inspect.signature(kind.__init__).parameters.values() if isinstance(each.annotation, str)]
    error = kind(**{each.name: SAMPLES[each.annotation.split(" | ")[0]] for each in taken})
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(twin) is kind
        assert str(twin) == str(error)
        assert repr(vars(twin)) == repr(vars(error))
