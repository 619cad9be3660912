"""A pattern as a deterministic automaton over the bytes of UTF-8.

Thompson's construction, then that of subsets (Aho, Sethi, Ullman, "Compilers", sections 3.7 and 3.9), both with a
bound: patterns come from strangers, and a short one can have more states than a machine has memory.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np

from ..arrays import BoolArray, IntArray
from .errors import ConstraintError, ConstraintTooLarge
from .pattern import Chars, Either, Pattern, Ranges, Repeat, Selection, Sequence

MOST_NODES = 60_000
"""Of the automaton that is built first; and how deep a pattern may be is what Python's stack allows."""
MOST_STATES = 8_000
MOST_WORK = 3_000_000
"""Edges that are looked at while subsets are formed; a second or so."""
DEAD = 0
"""The state from which nothing matches any more."""


@dataclass(frozen=True, eq=False)
class Automaton:
    """Reads bytes. Every state but `DEAD` is on the way to a match.

    Attributes:
        table: int32 [states, classes] the next state for each class of bytes.
        byte_class: uint8 [256] the class of each byte.
        accepting: bool [states] where a text may end.
        start: the first state.
    """

    table: IntArray
    byte_class: IntArray
    accepting: BoolArray
    start: int

    @classmethod
    def of(cls, pattern: Pattern) -> Automaton:
        """The automaton that matches what `pattern` does.

        Raises:
            ConstraintError: nothing matches it.
            ConstraintTooLarge: it would have too many states.
        """
        try:
            builder = _Builder()
            builder.check_size(pattern)
            start, end = builder.node(), builder.node()
            builder.add(pattern, start, end)
        except RecursionError:
            raise ConstraintTooLarge("it is nested too deep") from None
        return _form_subsets(builder, start, end)

    def step(self, states: IntArray, text: bytes) -> IntArray:
        """The states that `states` [any] end in after `text`."""
        for byte in text:
            states = self.table[states, self.byte_class[byte]]
        return states

    def matches(self, text: str) -> bool:
        """Whether all of `text` matches."""
        return bool(self.accepting[self.step(np.array(self.start), text.encode())])

    def certain(self, state: int, most: int) -> bytes:
        """Up to `most` bytes that every match goes on with after `state`."""
        found = bytearray()
        while len(found) < most and not self.accepting[state]:
            alive = np.flatnonzero(self.table[state])
            if len(alive) != 1:
                break
            found_bytes = np.flatnonzero(self.byte_class == alive[0])
            if len(found_bytes) != 1:
                break
            found.append(int(found_bytes[0]))
            state = int(self.table[state, alive[0]])
        return bytes(found)

    def is_last(self, state: int) -> bool:
        """Whether a match ends at `state` and nowhere later."""
        return bool(self.accepting[state]) and not self.table[state].any()


class _Builder:
    """An automaton whose nodes have edges for ranges of bytes, and edges for nothing."""

    def __init__(self) -> None:
        self.edges: list[list[tuple[int, int, int]]] = []
        self.free: list[list[int]] = []

    def node(self) -> int:
        self.edges.append([])
        self.free.append([])
        return len(self.edges) - 1

    def check_size(self, pattern: Pattern) -> int:
        """About how many nodes `pattern` takes."""
        if isinstance(pattern, Chars):
            size = sum(map(len, spell_ranges(pattern.ranges)))  # more than are left once endings are shared
        elif isinstance(pattern, Sequence):
            size = 1 + sum(map(self.check_size, pattern.parts))
        elif isinstance(pattern, Either):
            size = 2 + sum(map(self.check_size, pattern.options))
        elif isinstance(pattern, Selection):
            size = sum(map(self.check_size, pattern.parts)) + len(pattern.parts) * (
                3 + self.check_size(pattern.separator)
            )
        else:
            each = self.check_size(pattern.part) + self.check_size(pattern.separator) + 1
            size = each * max(1, pattern.least if pattern.most is None else pattern.most)
        if size > MOST_NODES:
            raise ConstraintTooLarge(f"it takes more than {MOST_NODES:,} nodes")
        return size

    def add(self, pattern: Pattern, start: int, end: int) -> None:
        """Lead from `start` to `end` by what `pattern` matches."""
        if isinstance(pattern, Chars):
            shared: dict[tuple[ByteRange, ...], int] = {(): end}
            for (low, high), *rest in spell_ranges(pattern.ranges):
                self.edges[start].append((low, high, self._spell(tuple(rest), shared)))
        elif isinstance(pattern, Sequence):
            for part in pattern.parts:
                after = self.node()
                self.add(part, start, after)
                start = after
            self.free[start].append(end)
        elif isinstance(pattern, Either):
            for option in pattern.options:
                begin, done = self.node(), self.node()
                self.free[start].append(begin)
                self.add(option, begin, done)
                self.free[done].append(end)
        elif isinstance(pattern, Selection):
            self._select(pattern, start, end)
        else:
            self._repeat(pattern, start, end)

    def _spell(self, rest: tuple[ByteRange, ...], shared: dict[tuple[ByteRange, ...], int]) -> int:
        """The node from which the bytes of `rest` are left; one for all characters that end in the same way."""
        if rest not in shared:
            (low, high), *after = rest
            here = shared[rest] = self.node()
            self.edges[here].append((low, high, self._spell(tuple(after), shared)))
        return shared[rest]

    def _repeat(self, pattern: Repeat, start: int, end: int) -> None:
        """Copies, one for each time; without a most, the last one may follow itself."""
        copies = max(1, pattern.least) if pattern.most is None else pattern.most
        if pattern.least == 0:
            self.free[start].append(end)
        before = start
        for index in range(copies):
            begin, done = self.node(), self.node()
            if index:
                self.add(pattern.separator, before, begin)
            else:
                self.free[before].append(begin)
            self.add(pattern.part, begin, done)
            if index + 1 >= pattern.least:
                self.free[done].append(end)
            if pattern.most is None and index + 1 == copies:
                self.add(pattern.separator, done, begin)
            before = done

    def _select(self, pattern: Selection, start: int, end: int) -> None:
        """Each part once, after a separator if there was a part before; what is not needed is passed by."""
        fresh: int | None = start  # where there was no part yet, and where there was one
        before: int | None = None
        for part, needed in zip(pattern.parts, pattern.needed, strict=True):
            begin, done = self.node(), self.node()
            if fresh is not None:
                self.free[fresh].append(begin)
            if before is not None:
                self.add(pattern.separator, before, begin)
                if not needed:
                    self.free[before].append(done)
            self.add(part, begin, done)
            fresh, before = None if needed else fresh, done
        if before is not None:
            self.free[before].append(end)

    def close(self, nodes: Iterable[int]) -> frozenset[int]:
        """All that `nodes` lead to without a byte."""
        found, left = set(nodes), list(nodes)
        while left:
            for node in self.free[left.pop()]:
                if node not in found:
                    found.add(node)
                    left.append(node)
        return frozenset(found)


def _form_subsets(builder: _Builder, start: int, end: int) -> Automaton:
    byte_class, first_of = _classify(edge for edges in builder.edges for edge in edges)
    useful = {node for node, edges in enumerate(builder.edges) if edges} | {end}
    closures: dict[int, frozenset[int]] = {}

    def close(node: int) -> frozenset[int]:
        if node not in closures:
            closures[node] = builder.close([node]) & useful
        return closures[node]

    begin = close(start)
    numbers, listed, rows = {begin: 1}, [begin], [[DEAD] * len(first_of)]
    work = 0
    for subset in listed:
        reached: list[set[int]] = [set() for _ in first_of]
        for node in subset:
            for low, high, after in builder.edges[node]:
                closed = close(after)
                span = range(byte_class[low], byte_class[high] + 1)
                work += len(span) * len(closed)
                for index in span:
                    reached[index] |= closed
        work += len(subset)
        if work > MOST_WORK:
            raise ConstraintTooLarge("it takes too long to read")
        row = []
        for nodes in reached:
            after_all = frozenset(nodes)
            if after_all and after_all not in numbers:
                numbers[after_all] = len(numbers) + 1
                listed.append(after_all)
            row.append(numbers[after_all] if after_all else DEAD)
        rows.append(row)
        if len(numbers) > MOST_STATES:
            raise ConstraintTooLarge(f"it takes more than {MOST_STATES:,} states")
    accepting = np.array([False, *(end in subset for subset in listed)])
    return _trim(np.array(rows, dtype=np.int32), byte_class, accepting)


def _classify(edges: Iterable[tuple[int, int, int]]) -> tuple[IntArray, list[int]]:
    """The class of each byte, and the first byte of each class: neighbours that no edge tells apart are one class."""
    borders = {0}
    for low, high, _ in edges:
        borders |= {low, high + 1}
    first_of = sorted(border for border in borders if border < 256)
    byte_class = np.searchsorted(first_of, np.arange(256), side="right") - 1
    return byte_class.astype(np.int64), first_of


def _trim(table: IntArray, byte_class: IntArray, accepting: BoolArray) -> Automaton:
    """Leave out the states that lead to no match."""
    before: defaultdict[int, list[int]] = defaultdict(list)
    for state, row in enumerate(table.tolist()):
        for after in set(row) - {DEAD}:
            before[after].append(state)
    alive = set(np.flatnonzero(accepting).tolist())
    left = [*alive]
    while left:
        for state in before[left.pop()]:
            if state not in alive:
                alive.add(state)
                left.append(state)
    if 1 not in alive:
        raise ConstraintError("the constraint matches no text at all. Correct it.")
    kept = np.array([DEAD, *sorted(alive)])
    number = np.zeros(len(table), dtype=np.int32)
    number[kept] = np.arange(len(kept))
    return Automaton(number[table[kept]], byte_class, accepting[kept], int(number[1]))


ByteRange = tuple[int, int]


@cache
def spell_ranges(ranges: Ranges) -> tuple[tuple[ByteRange, ...], ...]:
    """The characters of `ranges` in UTF-8: sequences of ranges of bytes."""
    return tuple(spelling for low, high in ranges for spelling in _spell(low, high))


def _spell(low: int, high: int) -> Iterator[tuple[ByteRange, ...]]:
    """Split where the number of bytes changes, and so that each byte may be any of its range whatever the others."""
    for last in (0x7F, 0x7FF, 0xFFFF):
        if low <= last < high:
            yield from _spell(low, last)
            yield from _spell(last + 1, high)
            return
    first, final = chr(low).encode(), chr(high).encode()
    for bits in range(6, 6 * len(first), 6):
        mask = (1 << bits) - 1
        if low & ~mask != high & ~mask:
            if low & mask:
                yield from _spell(low, low | mask)
                yield from _spell((low | mask) + 1, high)
                return
            if high & mask != mask:
                yield from _spell(low, (high & ~mask) - 1)
                yield from _spell(high & ~mask, high)
                return
    yield tuple(zip(first, final, strict=True))
