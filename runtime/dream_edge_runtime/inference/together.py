"""Passes over several sequences, made as one.

A pass costs something beside its positions: weights are read, operators started. Sequences that go through it together
share that. They are padded to the longest of them, so that only such are joined as are nearly equally long.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from ..arrays import BoolArray, IntArray
from .network import KeyValues, Network, Rows

_MOST = 32
"""A joined pass has at most so many times as many positions as its overhead is worth: more would save next to nothing,
and logits take memory."""
_KEYS = 4000  # that cost as much to attend to as all else about a position
_COPIED = 300  # positions whose keys and values cost as much to copy as a position to compute


@dataclass(frozen=True)
class PassRequest:
    """A pass over one sequence: what `Network.forward` takes, without the dimension of the batch."""

    input_ids: IntArray
    """[active]"""
    position_ids: IntArray
    """[active]"""
    attention_mask: BoolArray
    """[1 or active, cached + active]"""
    logit_rows: IntArray
    """[rows] of the active positions."""
    temperature: float
    past: KeyValues | None = None
    keep: bool = False

    @property
    def active(self) -> int:
        return len(self.input_ids)

    @property
    def cached(self) -> int:
        return 0 if self.past is None else self.past.count


def forward_together(network: Network, requests: Sequence[PassRequest], cancel: threading.Event | None) -> list[Rows]:
    """What `network` says to each of `requests`, in as few passes as pays.

    Sums over keys are taken in another order than alone, so that fp32 may round differently in the last bits; see
    docs/batch.md. Logits of rows that went through a pass together are fetched together.

    Raises:
        Cancelled: `cancel` was set.
    """
    found: dict[int, Rows] = {}
    for group in plan_passes(network.pass_overhead, requests):
        found |= zip(group, forward_group(network, [requests[index] for index in group], cancel), strict=True)
    return [found[index] for index in range(len(requests))]


def plan_passes(overhead: int, requests: Sequence[PassRequest]) -> list[list[int]]:
    """Which of `requests` go through a pass together, by their indices: those for which padding costs less than a pass
    does, which is as much as `overhead` positions."""
    groups: list[list[int]] = []
    for index in sorted(range(len(requests)), key=lambda index: _sort_key(requests[index])):
        joined = [*groups[-1], index] if groups else []
        if joined and _pays(overhead, [requests[each] for each in joined]):
            groups[-1] = joined
        else:
            groups.append([index])
    return groups


def _sort_key(request: PassRequest) -> tuple[float, int, int]:
    return request.temperature, -request.active, -request.cached


def _pays(overhead: int, joined: Sequence[PassRequest]) -> bool:
    """Whether it costs less to have the last of `joined` among the others than alone."""
    *others, last = joined
    if others[0].temperature != last.temperature or len(joined) * others[0].active > _MOST * overhead:
        return False
    return _cost(overhead, joined) <= _cost(overhead, others) + _cost(overhead, [last])


def _cost(overhead: int, requests: Sequence[PassRequest]) -> float:
    """Of one pass over `requests`, in positions."""
    active, cached = _longest(requests)
    copied = cached / _COPIED if len(requests) > 1 else 0
    return overhead + len(requests) * (active * (1 + (cached + active) / _KEYS) + copied)


def _longest(requests: Sequence[PassRequest]) -> tuple[int, int]:
    """How many positions are active, and how many cached, in a pass over `requests`."""
    return max(request.active for request in requests), max(request.cached for request in requests)


def forward_group(network: Network, requests: Sequence[PassRequest], cancel: threading.Event | None) -> list[Rows]:
    """One pass over `requests`, whose temperatures are equal. Raises Cancelled."""
    first = requests[0]
    if len(requests) == 1:
        alone = first.input_ids[None], first.position_ids[None], first.attention_mask[None], first.logit_rows
        return [network.forward(*alone, first.temperature, cancel, past=first.past, keep=first.keep)]
    active, cached = _longest(requests)
    pasts = [request.past for request in requests]
    known = next((past for past in pasts if past is not None), None)
    rows = network.forward(
        np.stack([_lengthen(request.input_ids, active) for request in requests]),
        np.stack([_lengthen(request.position_ids, active) for request in requests]),
        _stack_masks(requests, active, cached),
        np.concatenate([request.logit_rows + index * active for index, request in enumerate(requests)]),
        first.temperature,
        cancel,
        past=None if known is None else known.stack(pasts),
        keep=any(request.keep for request in requests),
    )
    return list(_split(rows, requests))


def _lengthen(values: IntArray, length: int) -> IntArray:
    """`values` [active], the last of them repeated up to `length`."""
    return np.pad(values, (0, length - len(values)), mode="edge")


def _stack_masks(requests: Sequence[PassRequest], active: int, cached: int) -> BoolArray:
    """[batch, 1 or active, cached + active]. No query attends to padding; what is padding attends to something."""
    queries = active if any(len(request.attention_mask) > 1 for request in requests) else 1
    stacked: BoolArray = np.zeros((len(requests), queries, cached + active), dtype=bool)
    for mask, request in zip(stacked, requests, strict=True):
        own = request.attention_mask
        own = np.pad(own, ((0, queries - len(own)), (0, 0)), mode="edge")
        mask[:, : request.cached] = own[:, : request.cached]
        mask[:, cached : cached + request.active] = own[:, request.cached :]
    return stacked


def _split(rows: Rows, requests: Sequence[PassRequest]) -> Iterator[Rows]:
    """What `rows` says to each of `requests`; full logits are fetched for all of them, once."""
    kept = rows.key_values and rows.key_values.split([request.active * request.keep for request in requests])
    shared, start = replace(rows, key_values=None, fetch_logits=cache(rows.fetch_logits)), 0
    for index, request in enumerate(requests):
        part = shared.take(slice(start, start + len(request.logit_rows)))
        yield replace(part, key_values=kept[index]) if kept and request.keep else part
        start += len(request.logit_rows)
