"""The door of the package: arguments of other types than a verb declares, and what the system refuses while it works,
are errors that say what to do, for every verb alike."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import cache, wraps
from numbers import Integral, Real
from types import SimpleNamespace, UnionType
from typing import Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

from dream_edge_runtime.errors import DreamEdgeError, InvalidOption

_Given = ParamSpec("_Given")
_Result = TypeVar("_Result")


class SystemRefusal(DreamEdgeError, OSError):
    """The system does not let a file be found, read or written."""

    def __init__(self, error: OSError) -> None:
        place = f"{str(error.filename)[:200]}: " if error.filename else ""
        super().__init__(
            f"{place}{error.strerror or error}. Check the name, and that this user may read it, or write there."
        )


def guard(verb: Callable[_Given, _Result]) -> Callable[_Given, _Result]:
    """`verb`, which refuses arguments of a wrong type by InvalidOption, and raises SystemRefusal for a bare OSError."""
    signature, declared = inspect.signature(verb), cache(lambda: _types(verb))

    @wraps(verb)
    def guarded(*args: _Given.args, **named: _Given.kwargs) -> _Result:
        for name, value in signature.bind(*args, **named).arguments.items():
            if not _fits(value, declared()[name]):
                requirement = f"must be {signature.parameters[name].annotation}, not {type(value).__name__}"
                raise InvalidOption(name, value, requirement)
            if isinstance(value, str) and "\0" in value:
                raise InvalidOption(name, value, "must not hold NUL, which no system takes in a name")
        try:
            return verb(*args, **named)
        except OSError as error:
            if isinstance(error, DreamEdgeError):
                raise
            raise SystemRefusal(error) from error

    return guarded


def _types(verb: Callable[..., object]) -> dict[str, Any]:
    """The types of its arguments; anything for those that only type checkers see."""
    found = dict[str, Any]()
    for name, written in verb.__annotations__.items():
        try:
            found |= get_type_hints(SimpleNamespace(__annotations__={name: written}), verb.__globals__)
        except NameError:
            found[name] = Any
    return found


def _fits(value: object, declared: Any) -> bool:
    kind, inner = get_origin(declared) or declared, get_args(declared)
    if kind in (Union, UnionType):
        return any(_fits(value, each) for each in inner)
    if kind is Literal:  # the verb says which there are
        return isinstance(value, str)
    if kind in (int, float):
        return isinstance(value, Integral if kind is int else Real) and not isinstance(value, bool)
    if kind is Sequence:
        return (
            isinstance(value, Sequence) and not isinstance(value, str) and all(_fits(each, inner[0]) for each in value)
        )
    try:
        return isinstance(value, kind)
    except TypeError:  # a protocol, a typed dictionary, Any
        return True
