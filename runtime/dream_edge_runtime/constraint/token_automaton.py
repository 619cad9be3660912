"""An automaton over tokens: which of a vocabulary lead where, from an automaton over bytes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

from ..arrays import BoolArray, IntArray
from .automaton import ADD, DEAD, RESET, Automaton
from .errors import ConstraintTooLarge
from .vocabulary import Vocabulary

MOST_VISITS = 32_000_000
"""Nodes of the vocabulary that are visited from all states together; two seconds or so."""
MOST_ARROWS = 1_000_000
_FEW_BYTES, _NARROW_AT_ONCE, _WIDE_AT_ONCE = 16, 1024, 16
_KEPT_BYTES = 8 << 20  # of counts in each direction
_KEPT_ANSWERS = 4096
MASK, NOWHERE = -1, 0
"""Kinds of tokens: any; one that leads nowhere."""
FAR = 1 << 40
"""More than any count."""

Signs = npt.NDArray[np.uint64]


@dataclass(frozen=True, eq=False)
class Arrows:
    """What leads from a state to another, and what becomes of the count.

    Attributes:
        source, target: int64 [arrows] states.
        kept: bool [arrows] whether the count goes on; it begins again elsewhere.
        added: int64 [arrows] what is added to it then.
        room: int64 [arrows] the largest count from which it leads.
    """

    source: IntArray
    target: IntArray
    kept: BoolArray
    added: IntArray
    room: IntArray

    def take(self, which: IntArray | BoolArray | slice) -> Arrows:
        return Arrows(self.source[which], self.target[which], self.kept[which], self.added[which], self.room[which])

    @classmethod
    def without_count(cls, source: IntArray, target: IntArray) -> Arrows:
        zeros = np.zeros_like(source)
        return cls(source, target, zeros > 0, zeros, zeros)

    def go_on(self, target: IntArray, effect: IntArray, most: IntArray) -> Arrows:
        """These, and after each a byte that leads to `target` [arrows] and has `effect` [arrows] on the count. No
        room is left, -1 or less, where the count is then above `most` [states]."""
        kept = self.kept & (effect != RESET)
        added = np.where(effect == RESET, 0, self.added + (effect == ADD))
        left = most[target] - added
        room = np.where(kept | (left < 0), np.minimum(self.room, left), self.room)
        return Arrows(self.source, target, kept, added, room)

    def lead(self, least: IntArray) -> IntArray:
        """The least counts [states] after it, `FAR` where no state is reached, from those before it."""
        before = least[self.source]
        after = np.where(before <= self.room, before * self.kept + self.added, FAR)
        found = np.full(len(least), FAR)
        np.minimum.at(found, self.target, after)
        return found

    def lead_back(self, most: IntArray) -> IntArray:
        """The largest counts [states] before it, -1 where there is none, from which it leads to at most `most`."""
        left = most[self.target] - self.added
        before = np.where(left < 0, -1, np.where(self.kept, left, self.room))
        found = np.full(len(most), -1)
        np.maximum.at(found, self.source, before)
        return found

    def fit(self, least: IntArray, most: IntArray) -> BoolArray:
        """Which [arrows] lead from a count of at least `least` [states] to one of at most `most` [states]."""
        before = least[self.source]
        fits: BoolArray = (before <= self.room) & (before * self.kept + self.added <= most[self.target])
        return fits

    def find_best(self) -> Arrows:
        """Those but for which no other leads from and to the same states with more room, and adds less."""
        pair = (self.source * (int(self.target.max(initial=0)) + 1) + self.target) * 2 + self.kept
        order = np.lexsort((-self.room, self.added, pair))
        height = np.unique(pair[order], return_inverse=True)[1] * FAR + self.room[order]
        before = np.append(-1, np.maximum.accumulate(height)[:-1])
        return self.take(order[height > before])

    def sign(self, states: int) -> Signs:
        """A number [arrows] that looks random; two arrows have the same by chance one time in 2 to the 64."""
        packed = self.source.astype(np.uint64)
        for values, size in ((self.target, states), (self.kept, 2), (self.added, 1 << 16), (self.room, 1 << 17)):
            packed = packed * np.uint64(size) + values.astype(np.uint64)
        for factor in (0xBF58476D1CE4E5B9, 0x94D049BB133111EB):  # Steele et al., "Fast splittable pseudorandom …"
            packed = (packed ^ (packed >> np.uint64(30))) * np.uint64(factor)
        return packed ^ (packed >> np.uint64(31))


class TokenAutomaton:
    """Reads tokens. Its states are those of the bytes' automaton and `end`, which ends of text lead to and stay in.

    How it stands at a place is told by the least count that each state may have there, and what may follow by the
    largest from which the rest still matches: int64 [states], as bytes. Tokens that lead from every state to the same
    are of one kind, so there are few.

    Immutable but for what it remembers, and shared by threads.

    Attributes:
        automaton: of the bytes.
        end: the state after the match.
        states: how many.
        kinds: [vocabulary + 1] the kind of each token; the last is `NOWHERE`.
        ending: the kind of ends of text.
        start: how it stands at the beginning.
    """

    def __init__(self, automaton: Automaton, vocabulary: Vocabulary) -> None:
        self.automaton: Automaton = automaton
        self.end: int = len(automaton.table)
        self.states: int = self.end + 1
        self._visits = 0
        self.kinds: IntArray
        self.kinds, shown = self._find_kinds(vocabulary)
        self.ending: int = len(shown) + 1
        self._arrows, self._starts = self._find_arrows(vocabulary, shown)
        self._any = self._arrows.find_best()
        kept = max(256, _KEPT_BYTES // (8 * self.states))
        self.after: Callable[[bytes, int], bytes] = lru_cache(kept)(self._find_after)
        self.before: Callable[[bytes, int], bytes] = lru_cache(kept)(self._find_before)
        self.fitting: Callable[[bytes, bytes], BoolArray] = lru_cache(_KEPT_ANSWERS)(self._find_fitting)
        least = np.full(self.states, FAR)
        least[automaton.start] = 0
        self.start: bytes = least.tobytes()

    def _find_kinds(self, vocabulary: Vocabulary) -> tuple[IntArray, IntArray]:
        """The kind of each token, and a token of each kind but `NOWHERE`, in order.

        Tokens are told apart by the sum of what their arrows are signed with. States that few bytes follow are walked
        from with the vocabulary as it is, the others with what is left of it where tokens are alike for all of them.
        """
        table, byte_class = self.automaton.table, self.automaton.byte_class
        wide = (table[:, byte_class] != DEAD).sum(axis=1) > _FEW_BYTES
        narrow = np.flatnonzero(~wide)[1:]  # the first is DEAD
        merged, number = vocabulary, vocabulary.first_alike
        signs = self._sign_tokens(narrow, vocabulary, _NARROW_AT_ONCE)[number]
        if wide.sum() > _WIDE_AT_ONCE:
            merged, number = self._merge_alike(wide, vocabulary)
        signs += self._sign_tokens(np.flatnonzero(wide), merged, _WIDE_AT_ONCE)[number]
        _, shown, kinds = np.unique(np.append(signs, np.uint64(0)), return_index=True, return_inverse=True)
        return kinds, shown[1:]

    def _sign_tokens(self, states: IntArray, vocabulary: Vocabulary, at_once: int) -> Signs:
        """The sum of the signs of each token's arrows from `states` [vocabulary + 1]; the last has none."""
        signs = np.zeros(vocabulary.size + 1, dtype=np.uint64)
        for start in range(0, len(states), at_once):
            for token, arrows in self._walk(states[start : start + at_once], vocabulary):
                np.add.at(signs, token, arrows.sign(self.states))
        return signs

    def _merge_alike(self, wide: BoolArray, vocabulary: Vocabulary) -> tuple[Vocabulary, IntArray]:
        """The vocabulary with one token for all that lead from each of the states `wide` [states] to the same, and the
        number in it of each token, -1 where it has no bytes.

        Where many bytes lead to the same from every one of some states, and to none but these, one may stand for all of
        them. So a thousand words are one inside a string, wherever in it they stand.
        """
        table, effect, byte_class = self.automaton.table, self.automaton.effect, self.automaton.byte_class
        members = np.bincount(byte_class)
        inside = wide
        while True:
            after = table[inside]
            _, first, alike = np.unique(
                np.concatenate([after, effect[inside]]), axis=1, return_index=True, return_inverse=True
            )
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
        merged: dict[bytes, int] = {}
        number = np.full(vocabulary.size, -1)
        for token, text in vocabulary.bytes.items():
            match = leaving.search(text)
            end = match.start() if match else len(text)
            number[token] = merged.setdefault(text[:end].translate(spelling) + text[end:], len(merged))
        return Vocabulary({each: text for text, each in merged.items()}), number

    def _walk(self, starts: IntArray, vocabulary: Vocabulary) -> Iterator[tuple[IntArray, Arrows]]:
        """Level by level, the tokens of the vocabulary that lead anywhere from `starts`, and where to."""
        automaton = self.automaton
        node = np.zeros(len(starts), dtype=np.int64)
        way = Arrows(starts, starts, np.ones(len(starts), dtype=bool), np.zeros_like(starts), automaton.most[starts])
        counts = automaton.most.any()
        while node.size:
            children = vocabulary.children[node]
            parent = np.repeat(np.arange(len(node)), children)
            child = np.arange(len(parent)) + (vocabulary.first_child[node] - np.cumsum(children) + children)[parent]
            state, column = way.target[parent], automaton.byte_class[vocabulary.byte[child]]
            target = automaton.table[state, column]
            alive = np.flatnonzero(target)
            node, parent, target = child[alive], parent[alive], target[alive]
            if counts:
                way = way.take(parent).go_on(target, automaton.effect[state[alive], column[alive]], automaton.most)
                if not (inside := way.room >= 0).all():
                    node, way = node[inside], way.take(inside)
            else:
                way = Arrows.without_count(way.source[parent], target)
            self._visits += len(node)
            if self._visits > MOST_VISITS:
                raise ConstraintTooLarge("too many of its states take too many tokens")
            token = vocabulary.token[node]
            ends = np.flatnonzero(token >= 0)
            yield token[ends], way.take(ends)

    def _find_arrows(self, vocabulary: Vocabulary, shown: IntArray) -> tuple[Arrows, IntArray]:
        """The arrows of each kind, one after the other, and where those of each begin."""
        few = Vocabulary({kind: vocabulary.bytes[token] for kind, token in enumerate(shown.tolist(), 1)})
        finished = np.append(np.flatnonzero(self.automaton.accepting), self.end)
        most = np.append(self.automaton.most, 0)[finished]
        none = np.zeros(len(finished), dtype=np.int64)
        kinds = [none + self.ending]
        found = [Arrows(finished, none + self.end, none > 0, none, most)]
        for start in range(1, self.end, _NARROW_AT_ONCE):
            for kind, arrows in self._walk(np.arange(start, min(start + _NARROW_AT_ONCE, self.end)), few):
                kinds.append(kind)
                found.append(arrows)
                if sum(map(len, kinds)) > MOST_ARROWS:
                    raise ConstraintTooLarge("too many of its states take too many tokens")
        kind_of = np.concatenate(kinds)
        order = np.argsort(kind_of, kind="stable")
        names = ("source", "target", "kept", "added", "room")
        arrows = Arrows(*(np.concatenate([getattr(each, name) for each in found])[order] for name in names))
        return arrows, np.searchsorted(kind_of[order], np.arange(self.ending + 2))

    def _of(self, kind: int) -> Arrows:
        return self._any if kind == MASK else self._arrows.take(slice(*self._starts[kind : kind + 2]))

    def _find_after(self, least: bytes, kind: int) -> bytes:
        return self._of(kind).lead(np.frombuffer(least, np.int64)).tobytes()

    def _find_before(self, most: bytes, kind: int) -> bytes:
        return self._of(kind).lead_back(np.frombuffer(most, np.int64)).tobytes()

    def _find_fitting(self, least: bytes, most: bytes) -> BoolArray:
        """Which kinds [kinds] may stand between a place with `least` and one with `most`."""
        fits = self._arrows.fit(np.frombuffer(least, np.int64), np.frombuffer(most, np.int64))
        found = np.zeros(self.ending + 1, dtype=bool)
        found[1:] = np.logical_or.reduceat(fits, self._starts[1:-1])
        return found

    def finish(self, *, padded: bool) -> bytes:
        """What may stand after the last token: a match, and ends of text if it is `padded`."""
        most = np.full(self.states, -1)
        most[:-1][self.automaton.accepting] = self.automaton.most[self.automaton.accepting]
        most[-1] = 0 if padded else -1
        return most.tobytes()

    @cached_property
    def shortest(self) -> int:
        """How many tokens the shortest match takes."""
        most, tokens = self.finish(padded=True), 0
        while np.frombuffer(most, np.int64)[self.automaton.start] < 0:
            before = self.before(most, MASK)
            if before == most:
                return FAR
            most, tokens = before, tokens + 1
        return tokens
