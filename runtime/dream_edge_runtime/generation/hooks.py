"""The two places where a caller can step into the loop: the logits of a pass, and the tokens after a step.

Both see one sequence at a time, without padding; in a batch they are called for each. Positions count from the start of
the sequence, steps from 0, as upstream.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arrays import FloatArray, IntArray
from ..errors import InvalidOption
from .canvas import Canvas

LogitsHook = Callable[[int, IntArray, IntArray, FloatArray], FloatArray]
"""`hook(step, ids [length], positions [rows], logits fp32 [rows, vocab])` returns the logits to use instead.

The rows are those of the masked `positions` the step asks about: already shifted, not yet divided by the temperature.
A step that can reveal nothing makes no pass and asks no hook.
"""

TokenHook = Callable[[int | None, IntArray], IntArray]
"""`hook(step, ids [length])` returns the ids to go on with: before the first step (`step` None) and after each.

A position changed to the mask id is masked again, one changed to another id is settled.
"""


@dataclass(frozen=True)
class Hooks:
    logits: LogitsHook | None = None
    tokens: TokenHook | None = None

    def __post_init__(self) -> None:
        for name, hook in (("logits_hook", self.logits), ("token_hook", self.tokens)):
            if hook is not None and not callable(hook):
                raise InvalidOption(name, hook, "must be a function")


NO_HOOKS = Hooks()


def call_logits_hook(
    hook: LogitsHook, step: int, canvas: Canvas, row: int, positions: IntArray, logits: FloatArray
) -> FloatArray:
    """The logits [rows, vocab] that `hook` wants for `positions` (of the padded canvas) of sequence `row`.

    Raises:
        InvalidOption: it returns another shape, or a row without a finite maximum (NaN, or nothing left to choose).
    """
    returned = hook(step, canvas.sequence(row), positions - canvas.first[row], logits)
    changed: FloatArray = _array("logits_hook", returned, np.float32, logits.shape)
    if not np.isfinite(changed.max(axis=1)).all():
        raise InvalidOption("logits_hook", hook, "must leave a finite highest logit in every row, and no NaN")
    return changed


def call_token_hook(hook: TokenHook, step: int | None, canvas: Canvas, vocab_size: int) -> None:
    """Let `hook` rewrite each sequence of `canvas`.

    Raises:
        InvalidOption: it returns anything but integers of the shape it was given.
        InvalidTokenId: an id is outside the vocabulary.
    """
    for row in range(len(canvas.ids)):
        before = canvas.sequence(row)
        canvas.rewrite(row, _array("token_hook", hook(step, before), np.int64, before.shape), vocab_size)


def _array(name: str, value: Any, dtype: type[np.generic], shape: tuple[int, ...]) -> Any:
    try:
        array = np.asarray(value)
    except ValueError:  # ragged
        array = np.empty(0)
    if array.shape != shape or not np.can_cast(array.dtype, dtype, "same_kind"):
        found = f"{array.dtype.name}{list(array.shape)}"
        raise InvalidOption(name, found, f"must return an array {np.dtype(dtype).name}{list(shape)}")
    return array.astype(dtype, copy=False)
