"""The trees of errors in the docstrings are those of the classes."""

from __future__ import annotations

import inspect
import re
from types import ModuleType

import pytest

from dream_edge_export import errors as export_errors
from dream_edge_runtime import errors as runtime_errors


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
