"""A pattern as a deterministic automaton over the bytes of UTF-8, with a count.

Thompson's construction, then that of subsets (Aho, Sethi, Ullman, "Compilers", sections 3.7 and 3.9), both with a
bound: patterns come from strangers, and a short one can have more states than a machine has memory.

Up to 1,000 characters are not 1,000 copies of one but a loop, whose rounds are counted. That is exact where each byte
tells whether a round goes on; where it does not (`.{0,100}x`: is this x one of the hundred?), they are copies.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ..arrays import BoolArray, IntArray
from .errors import ConstraintError, ConstraintTooLarge
from .pattern import ByteRange, Chars, Either, Pattern, Repeat, Selection, Sequence, spell_ranges

MOST_NODES = 60_000
"""Of the automaton that is built first; and how deep a pattern may be is what Python's stack allows."""
MOST_STATES = 8_000
MOST_WORK = 3_000_000
"""Edges that are looked at while subsets are formed; a second or so."""
DEAD = 0
"""The state from which nothing matches any more."""
RESET, KEEP, ADD = 0, 1, 2
"""What a byte does to the count: nothing is counted after it, or not yet; it goes on; another round is complete."""


@dataclass(frozen=True, eq=False)
class Automaton:
    """Reads bytes, and counts. Every state but `DEAD` is on the way to a match, if little enough was counted: all that
    may follow a count may follow a lower one too.

    Attributes:
        table: int32 [states, classes] the next state for each class of bytes.
        effect: int8 [states, classes] what each does to the count.
        most: int64 [states] counts for which a byte may lead there.
        byte_class: uint8 [256] the class of each byte.
        accepting: bool [states] where a text may end.
        start: the first state.
    """

    table: IntArray
    effect: IntArray
    most: IntArray
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
        copied: set[Repeat] = set()
        work = 0
        while True:
            try:
                builder = _Builder(copied, work)
                builder.check_size(pattern)
                start, end = builder.node(), builder.node()
                builder.add(pattern, start, end)
                return _form_subsets(builder, start, end)
            except RecursionError:
                raise ConstraintTooLarge("it is nested too deep") from None
            except _CountIsAmbiguous as error:
                copied, work = copied | error.repeats, builder.work

    def step(self, state: int, count: int, text: bytes) -> tuple[int, int]:
        """The state and the count after `text`, from those before it."""
        for byte in text:
            column = self.byte_class[byte]
            effect = self.effect[state, column]
            state = int(self.table[state, column])
            count = 0 if effect == RESET else count + int(effect == ADD)
            if count > self.most[state]:
                return DEAD, 0
        return state, count

    def matches(self, text: str) -> bool:
        """Whether all of `text` matches."""
        return bool(self.accepting[self.step(self.start, 0, text.encode())[0]])

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
    """An automaton whose nodes have edges for ranges of bytes, and edges for nothing.

    Args:
        copied: what is not to be counted.
        work: that has been done before.
    """

    def __init__(self, copied: set[Repeat], work: int) -> None:
        self.work = work
        self.edges: list[list[tuple[int, int, int]]] = []
        self.free: list[list[int]] = []
        self.counter: list[int] = []  # of each node: whose rounds are counted there; 0 = none
        self.counted: dict[Repeat, int] = {}  # the counter of each; equal ones are in step, or else ambiguous
        self.round_ends: set[int] = set()
        self._copied, self._counter = copied, 0

    def node(self) -> int:
        self.edges.append([])
        self.free.append([])
        self.counter.append(self._counter)
        return len(self.edges) - 1

    def counts(self, pattern: Repeat) -> bool:
        return pattern.is_counted and pattern not in self._copied

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
            counted = self.counts(pattern)
            size = each * max(1, pattern.count_copies(counted=counted) + counted)
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
        """Copies, one for each time; without a most, the last one may follow itself; with a count, another does."""
        counted = self.counts(pattern)
        copies = pattern.count_copies(counted=counted)
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
        if counted:
            self._counter = self.counted.setdefault(pattern, len(self.counted) + 1)
            begin, done = self.node(), self.node()
            self.add(pattern.part, begin, done)
            self._counter = 0
            self.round_ends.add(done)
            self.free[before].append(begin)
            self.free[done] += [begin, end]

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


class _CountIsAmbiguous(Exception):
    def __init__(self, repeats: set[Repeat]) -> None:
        self.repeats = repeats


def _form_subsets(builder: _Builder, start: int, end: int) -> Automaton:
    byte_class, first_of = _classify(edge for edges in builder.edges for edge in edges)
    useful = {node for node, edges in enumerate(builder.edges) if edges} | {end}
    rooms = [0, *(repeat.most - max(1, repeat.least) for repeat in builder.counted if repeat.most)]
    closures: dict[int, tuple[frozenset[int], int]] = {}

    def close(node: int) -> tuple[frozenset[int], int]:
        """What `node` leads to, and the effect of coming there within a round."""
        if node not in closures:
            found = builder.close([node])
            closures[node] = found & useful, KEEP if found.isdisjoint(builder.round_ends) else ADD
        return closures[node]

    begin, _ = close(start)
    numbers, listed, most = {begin: 1}, [begin], [0, 0]
    rows, effects = [[DEAD] * len(first_of)], [[RESET] * len(first_of)]
    builder.work += len(builder.edges)
    for subset in listed:
        reached: list[set[int]] = [set() for _ in first_of]
        ways: list[set[tuple[int, int]]] = [set() for _ in first_of]
        for node in subset:
            counter = builder.counter[node]
            for low, high, after in builder.edges[node]:
                closed, effect = close(after)
                span = range(byte_class[low], byte_class[high] + 1)
                builder.work += len(span) * len(closed)
                for index in span:
                    reached[index] |= closed
                    ways[index].add((counter, effect if counter else RESET))
        builder.work += len(subset)
        if builder.work > MOST_WORK:
            raise ConstraintTooLarge("it takes too long to read")
        row, effect_row = [], []
        for nodes, found in zip(reached, ways, strict=True):
            if len(found) > 1:
                counters = {counter for counter, _ in found}
                raise _CountIsAmbiguous({each for each, counter in builder.counted.items() if counter in counters})
            after_all = frozenset(nodes)
            effect = next((effect for _, effect in found), RESET)
            if after_all and after_all not in numbers:
                numbers[after_all] = len(numbers) + 1
                listed.append(after_all)
                most.append(max(rooms[builder.counter[node]] for node in after_all))
            row.append(numbers[after_all] if after_all else DEAD)
            effect_row.append(effect)
        rows.append(row)
        effects.append(effect_row)
        if len(numbers) > MOST_STATES:
            raise ConstraintTooLarge(f"it takes more than {MOST_STATES:,} states")
    accepting = np.array([False, *(end in subset for subset in listed)])
    return _trim(
        Automaton(np.array(rows, np.int32), np.array(effects, np.int8), np.array(most), byte_class, accepting, 1)
    )


def _classify(edges: Iterable[tuple[int, int, int]]) -> tuple[IntArray, list[int]]:
    """The class of each byte, and the first byte of each class: neighbours that no edge tells apart are one class."""
    borders = {0}
    for low, high, _ in edges:
        borders |= {low, high + 1}
    first_of = sorted(border for border in borders if border < 256)
    byte_class = np.searchsorted(first_of, np.arange(256), side="right") - 1
    return byte_class.astype(np.int64), first_of


def _trim(automaton: Automaton) -> Automaton:
    """Leave out the states that lead to no match."""
    before: defaultdict[int, list[int]] = defaultdict(list)
    for state, row in enumerate(automaton.table.tolist()):
        for after in set(row) - {DEAD}:
            before[after].append(state)
    alive = set(np.flatnonzero(automaton.accepting).tolist())
    left = [*alive]
    while left:
        for state in before[left.pop()]:
            if state not in alive:
                alive.add(state)
                left.append(state)
    if automaton.start not in alive:
        raise ConstraintError("the constraint matches no text at all. Correct it.")
    kept = np.array([DEAD, *sorted(alive)])
    number = np.zeros(len(automaton.table), dtype=np.int32)
    number[kept] = np.arange(len(kept))
    return Automaton(
        number[automaton.table[kept]],
        automaton.effect[kept],
        automaton.most[kept],
        automaton.byte_class,
        automaton.accepting[kept],
        int(number[automaton.start]),
    )
