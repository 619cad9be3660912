"""What a call that names no schedule does: the fast preset, or the official loop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import InvalidOption
from .config import PARALLEL, GenerationConfig

FAST: Mapping[str, Any] = {"threshold": 0.98, "cache": "auto", "stop_at_end": True}
"""The fastest setting whose scores on the tiny Dream's tasks stay within one point of the official loop's
(benchmarks/decoding.py)."""

SCHEDULE = ("steps", "algorithm", "algorithm_temperature", "eps")
"""Options of the official schedule: whoever names one, and nothing of `PARALLEL`, gets that schedule."""

SAVING = ("block_length", "cache", "suffix_window", "grow_from")
"""Options that leave out of a pass what the official loop computes."""


def chosen(defaults: GenerationConfig, named: Mapping[str, Any], *, exact: bool) -> GenerationConfig:
    """What a call does that names the fields `named`, on top of the checkpoint's `defaults`.

    Raises:
        InvalidOption: a value that does not fit, or an option that is no part of the official loop although `exact`.
        UnknownOption: a name that is no field.
    """
    if exact:
        for name in (*PARALLEL, *SAVING):
            if named.get(name) not in (None, "none"):
                raise InvalidOption(name, named[name], "does not go with exact: the official loop has none")
        return defaults.replace(**named)
    parallel = any(named.get(name) is not None for name in PARALLEL)
    if not parallel and any(named.get(name) is not None for name in SCHEDULE):
        return defaults.replace(**named)
    fast = {name: value for name, value in FAST.items() if not (parallel and name in PARALLEL)}
    return defaults.replace(**{**fast, **named})
