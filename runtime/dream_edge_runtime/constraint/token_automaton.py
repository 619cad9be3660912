"""An automaton over tokens: which of a vocabulary lead where, from an automaton over bytes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import lru_cache, partial

import numpy as np

from ..arrays import BoolArray, IntArray
from .automaton import DEAD, Automaton
from .errors import ConstraintTooLarge
from .vocabulary import Vocabulary

MOST_VISITS = 60_000_000
"""Nodes of the vocabulary that are visited from all states together; two seconds or so."""
_LISTS_KEPT = 64  # of tokens; each may have a megabyte
_FEW_BYTES, _NARROW_AT_ONCE, _WIDE_AT_ONCE = 16, 1024, 16
UNREACHABLE = 1 << 40
_KEPT_BYTES = 4 << 20  # of sets of states in each direction, and of what tokens lead to


class TokenAutomaton:
    """Reads tokens. Its states are those of the bytes' automaton and `end`, which ends of text lead to and stay in.

    Immutable but for what it remembers, and shared by threads.

    Attributes:
        automaton: of the bytes.
        end: the state after the match.
        count: states.
        finished: bool [states] where nothing more need follow: a match is complete.
        distance: int64 [states] how many tokens the shortest way to a match takes.
    """

    def __init__(self, automaton: Automaton, vocabulary: Vocabulary) -> None:
        self.automaton: Automaton = automaton
        self.vocabulary: Vocabulary = vocabulary
        self.end: int = len(automaton.table)
        self.count: int = self.end + 1
        self.finished: BoolArray = np.append(automaton.accepting, True)
        leads = np.zeros((self.count, self.count), dtype=bool)
        visits = 0
        for tokens, starts in self._groups():
            for origin, node, state in self._walk(starts, tokens):
                visits += len(node)
                if visits > MOST_VISITS:
                    raise ConstraintTooLarge("too many of its states take too many tokens")
                ends = tokens.token[node] >= 0
                leads[starts[origin[ends]], state[ends]] = True
        leads[self.finished, self.end] = True
        forward, backward = _pack(leads), _pack(leads.T)
        self.distance: IntArray = self._measure(backward)
        kept = max(32, _KEPT_BYTES // (8 * self.count))
        self.read: Callable[[int, bool], IntArray] = lru_cache(kept)(self._read)
        self._tokens = lru_cache(_LISTS_KEPT)(self._find_tokens)
        self._after, self._before = (lru_cache(kept)(partial(self._lead, way)) for way in (forward, backward))

    def _groups(self) -> Iterator[tuple[Vocabulary, IntArray]]:
        """States that are walked from together: many of those that few bytes follow, few of the others."""
        table, byte_class = self.automaton.table, self.automaton.byte_class
        wide = (table[:, byte_class] != DEAD).sum(axis=1) > _FEW_BYTES
        narrow = np.flatnonzero(~wide)[1:]  # the first is DEAD
        for start in range(0, len(narrow), _NARROW_AT_ONCE):
            yield self.vocabulary, narrow[start : start + _NARROW_AT_ONCE]
        if wide.sum() <= _WIDE_AT_ONCE:
            yield self.vocabulary, np.flatnonzero(wide)
            return
        tokens = self._merge_alike(wide)
        for start in range(0, int(wide.sum()), _WIDE_AT_ONCE):
            yield tokens, np.flatnonzero(wide)[start : start + _WIDE_AT_ONCE]

    def _merge_alike(self, wide: BoolArray) -> Vocabulary:
        """The vocabulary with one token for all that lead from each of the states `wide` [states] to the same.

        Where many bytes lead to the same from every one of some states, and to none but these, one may stand for all of
        them. So a thousand words are one inside a string, wherever in it they stand.
        """
        table, byte_class = self.automaton.table, self.automaton.byte_class
        members = np.bincount(byte_class)
        inside = wide
        while True:
            after = table[inside]
            _, first, alike = np.unique(after, axis=1, return_index=True, return_inverse=True)
            alike = alike.reshape(-1)
            many = np.bincount(alike, weights=members)[alike] > _FEW_BYTES
            wider = inside.copy()
            wider[after[:, many]] = True
            wider[DEAD] = False
            if (wider == inside).all():
                break
            inside = wider
        first_byte = np.searchsorted(byte_class, np.arange(len(members)))
        spelling = first_byte[np.where(many, first[alike], np.arange(len(many)))][byte_class].astype(np.uint8).tobytes()
        others = np.flatnonzero(~many[byte_class]).astype(np.uint8).tobytes()
        leaving = re.compile(b"[%s]" % re.escape(others) if others else b"(?!)")
        merged = set()
        for text in self.vocabulary.bytes.values():
            match = leaving.search(text)
            end = match.start() if match else len(text)
            merged.add(text[:end].translate(spelling) + text[end:])
        return Vocabulary(dict(enumerate(merged)))

    def _walk(self, starts: IntArray, vocabulary: Vocabulary) -> Iterator[tuple[IntArray, IntArray, IntArray]]:
        """Level by level, from which of `starts` which nodes of the vocabulary are reached, and in which state."""
        automaton = self.automaton
        origin, node, state = np.arange(len(starts)), np.zeros(len(starts), dtype=np.int64), starts
        while node.size:
            count = vocabulary.children[node]
            parent = np.repeat(np.arange(len(node)), count)
            place = np.arange(len(parent)) - np.repeat(np.cumsum(count) - count, count)
            child = vocabulary.first_child[node][parent] + place
            after = automaton.table[state[parent], automaton.byte_class[vocabulary.byte[child]]]
            alive = after != DEAD
            origin, node, state = origin[parent[alive]], child[alive], after[alive]
            yield origin, node, state

    def _measure(self, backward: IntArray) -> IntArray:
        distance = np.full(self.count, UNREACHABLE)
        reached = np.flatnonzero(self.finished)
        distance[reached] = tokens = 0
        while reached.size:
            tokens += 1
            before = self._lead(backward, reached.tobytes())
            reached = before[distance[before] == UNREACHABLE]
            distance[reached] = tokens
        return distance

    @property
    def shortest(self) -> int:
        """How many tokens the shortest match takes."""
        return int(self.distance[self.automaton.start])

    def after(self, states: IntArray) -> IntArray:
        """The states that any token leads to from `states`, ascending."""
        return self._after(states.tobytes())

    def before(self, states: IntArray) -> IntArray:
        """The states from which any token leads to one of `states`, ascending."""
        return self._before(states.tobytes())

    def _lead(self, packed: IntArray, states: bytes) -> IntArray:
        bits = np.bitwise_or.reduce(packed[np.frombuffer(states, np.int64)], axis=0)
        found: IntArray = np.flatnonzero(np.unpackbits(bits.view(np.uint8), count=self.count))
        return found

    def _read(self, token: int, is_end: bool) -> IntArray:
        """The state [states] that `token` leads to from each; `is_end` is whether it is an end of text."""
        after = np.full(self.count, DEAD)
        if is_end:
            after[self.finished] = self.end
        elif text := self.vocabulary.bytes.get(token):
            after[: self.end] = self.automaton.step(np.arange(self.end), text)
        return after

    def tokens(self, states: IntArray, wanted: BoolArray) -> IntArray:
        """The tokens that lead from one of `states` to a state that is `wanted` [states]; ends of text are left out."""
        inside = states[states != self.end]
        return self._tokens(inside.tobytes(), (wanted & np.isin(np.arange(self.count), self.after(states))).tobytes())

    def _find_tokens(self, states: bytes, wanted: bytes) -> IntArray:
        starts, is_wanted = np.frombuffer(states, np.int64), np.frombuffer(wanted, bool)
        found = [np.empty(0, dtype=np.int64)]
        for first in range(0, len(starts), _WIDE_AT_ONCE):
            for _, node, state in self._walk(starts[first : first + _WIDE_AT_ONCE], self.vocabulary):
                token = self.vocabulary.token[node]
                found.append(token[(token >= 0) & is_wanted[state]])
        return np.unique(np.concatenate(found))


def _pack(leads: BoolArray) -> IntArray:
    bits = np.packbits(leads, axis=1)
    padded = np.zeros((len(bits), -(-bits.shape[1] // 8) * 8), dtype=np.uint8)
    padded[:, : bits.shape[1]] = bits
    return padded.view(np.uint64)
