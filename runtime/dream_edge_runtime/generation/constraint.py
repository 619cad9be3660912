"""What a constraint leaves possible on a canvas: no token is proposed, and no two are revealed, that rule out a match.

Masked places may take any token, settled ones are fixed, ends of text come after the match. From the left, the states
that the automaton may be in before each place; from the right, those from which the rest can still match. A token fits
where it leads from one of the former to one of the latter. That is exact, whatever order tokens are revealed in. (The
same product of forward and backward sets as in the constrained decoding of Suresh et al., "DINGO", arXiv 2505.23061.)
Of what a state has counted, the least that is possible and the most from which the rest can match are all that matters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, partial

import numpy as np

from ..arrays import BoolArray, FloatArray, IntArray
from ..constraint.errors import TooLittleRoom
from ..constraint.token_automaton import MASK, NOWHERE, TokenAutomaton
from ..inference.network import REDUCED, Rows
from ..text.tokenizer import Tokenizer
from .canvas import Canvas
from .logit_bias import NEVER
from .sampling import Proposal, Sampler, UniformSource, merge_proposals

LOOKED_AT = 32
"""At how many of the first masks it is made sure that what is proposed fits, whether it is chosen or not."""
_BEST = 8  # of a row that are looked through for one that fits
_TRIES = 2  # with which tokens are left out one by one
_LEAST_LEFT = 1e-3  # of a distribution: where less is left, what the k best tell is too little


@dataclass
class ConstrainedHole:
    """A part of one sequence whose text must match, and how it stands.

    Attributes:
        automaton: reads its tokens.
        ends: tokens that may follow a match, up to the end of the hole; none if the match must fill it.
        start: its first position, counted from the sequence's first token.
        stop: where it ends; None = where the sequence does.
        most: up to how many positions it may grow; None = it does not.
    """

    automaton: TokenAutomaton
    ends: frozenset[int]
    start: int
    stop: int | None = None
    most: int | None = None
    _kinds: IntArray = field(init=False)
    _here: IntArray = field(default_factory=lambda: np.empty(0, np.int64))
    _room: int = -1
    _forward: list[bytes] = field(default_factory=list)
    _backward: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        kinds = self.automaton.kinds
        self._kinds = np.full(max(len(kinds), *self.ends, 0) + 2, NOWHERE)
        self._kinds[: len(kinds)] = kinds
        self._kinds[list(self.ends)] = self.automaton.ending

    def read(self, ids: IntArray, masked: BoolArray) -> None:
        """Take in how the sequence stands: `ids` and `masked` [its length]. Ids of masked places mean nothing."""
        here = np.where(masked, MASK, self._kinds.take(ids, mode="clip"))[self.start : self.stop]
        room = max(len(here), self.most or 0)
        if (len(here), room) != (len(self._here), self._room):
            self._here, self._room = np.full(len(here), MASK), room
            self._forward, self._backward = self._read_masks(len(here), room)
        changed = np.flatnonzero(here != self._here)
        if not changed.size:
            return
        self._here, automaton = here, self.automaton
        first, last, kinds = int(changed[0]), int(changed[-1]), here.tolist()
        for at in range(first, len(kinds)):
            after = automaton.after(self._forward[at], kinds[at])
            if at >= last and after == self._forward[at + 1]:
                break
            self._forward[at + 1] = after
        for at in range(last, -1, -1):
            before = automaton.before(self._backward[at + 1], kinds[at])
            if at <= first and before == self._backward[at]:
                break
            self._backward[at] = before

    def _read_masks(self, size: int, room: int) -> tuple[list[bytes], list[bytes]]:
        """How it stands at each place of `size` masks that may become `room`, from the left and from the right."""
        forward, backward = [self.automaton.start], [self.automaton.finish(padded=bool(self.ends))]
        for _ in range(size):
            forward.append(self.automaton.after(forward[-1], MASK))
        for _ in range(room):
            backward.append(self.automaton.before(backward[-1], MASK))
        return forward, backward[: -size - 2 : -1]

    def check(self) -> None:
        """Raises TooLittleRoom where nothing that matches fits what stands there."""
        if not self._possible(0).size:
            raise TooLittleRoom(self.automaton.shortest, self._room)

    def _possible(self, at: int) -> IntArray:
        """The states before place `at` on the way to a match."""
        return _meet(self._forward[at], self._backward[at])

    def fits(self, position: int, tokens: IntArray) -> BoolArray:
        """For which of `tokens` [any] there is a match with it at `position` of the sequence."""
        at = position - self.start
        fitting = self.automaton.fitting(self._forward[at], self._backward[at + 1])
        return fitting[self._kinds.take(tokens, mode="clip")]

    def fit_together(self, tokens: dict[int, int]) -> bool:
        """Whether there is a match with all of `tokens`, by position of the sequence."""
        first, last = min(tokens) - self.start, max(tokens) - self.start
        kinds = self._here[first : last + 1].copy()
        kinds[np.fromiter(tokens, np.int64) - self.start - first] = self._kinds.take([*tokens.values()], mode="clip")
        least = self._forward[first]
        for kind in kinds.tolist():
            least = self.automaton.after(least, kind)
        return bool(_meet(least, self._backward[last + 1]).size)

    def certain(self, tokenizer: Tokenizer, pad: int) -> dict[int, int]:
        """Tokens, by position, of what every match has: at the beginning of a run of masks, and the padding at the end.

        The last one of a run is left to the network, since it may be one with what comes after it.
        """
        found = self._padding(pad)
        masked = np.append(self._here == MASK, False)
        starts = np.flatnonzero(masked[:-1] & ~np.append(False, masked[:-1])[:-1])
        for start in starts.tolist():
            stop = start + int((~masked[start:]).argmax())
            states = self._possible(start)
            if len(states) != 1 or states[0] == self.automaton.end:
                continue
            tokens = self._spell(int(states[0]), tokenizer, stop - start)
            run = {self.start + start + index: token for index, token in enumerate(tokens[: stop - start])}
            if run and self.fit_together(found | run):
                found |= run
        return found

    def _padding(self, pad: int) -> dict[int, int]:
        """Masks at the end where no match can reach."""
        found = {}
        for at in reversed(range(len(self._here))):
            if self._possible(at + 1).tolist() != [self.automaton.end]:
                break
            if self._here[at] == MASK:
                found[self.start + at] = pad
        return found

    def _spell(self, state: int, tokenizer: Tokenizer, room: int) -> list[int]:
        automaton = self.automaton.automaton
        text = automaton.certain(state, 16 * room)
        whole = text.decode("utf-8", "ignore")
        if not whole:
            return []
        tokens = tokenizer.encode(whole)
        last, _ = automaton.step(state, 0, text)
        return tokens if automaton.is_last(last) else tokens[:-1]


def _meet(least: bytes, most: bytes) -> IntArray:
    """The states that may have counted as little as `most` asks."""
    found: IntArray = np.flatnonzero(np.frombuffer(least, np.int64) <= np.frombuffer(most, np.int64))
    return found


@dataclass(frozen=True)
class Constraint:
    """The constrained holes of one sequence."""

    holes: Sequence[ConstrainedHole]
    tokenizer: Tokenizer

    def read(self, canvas: Canvas, row: int) -> None:
        """Take in how sequence `row` stands."""
        ids, masked = canvas.sequence(row), canvas.sequence_masked(row)
        for hole in self.holes:
            hole.read(ids, masked)

    def settle(self, canvas: Canvas, row: int) -> IntArray:
        """Settle what is certain without asking the network; returns the positions on the canvas."""
        self.read(canvas, row)
        found: dict[int, int] = {}
        for hole in self.holes:
            found |= hole.certain(self.tokenizer, canvas.pad_id)
        positions: IntArray = np.fromiter(found, np.int64, len(found)) + canvas.first[row]
        canvas.reveal(row, positions, np.fromiter(found.values(), np.int64, len(found)))
        return positions

    def keep_fitting(self, positions: IntArray, tokens: IntArray) -> BoolArray:
        """Which of `tokens` [any], at `positions` of the sequence, best first, may be settled together."""
        kept = np.ones(len(positions), dtype=bool)
        for hole in self.holes:
            mine = [index for index, at in enumerate(positions) if self._hole(at) is hole]
            chosen = {int(positions[index]): int(tokens[index]) for index in mine}
            if len(chosen) < 2 or hole.fit_together(chosen):
                continue
            chosen = {}
            for index in mine:
                more = chosen | {int(positions[index]): int(tokens[index])}
                kept[index] = hole.fit_together(more)
                chosen = more if kept[index] else chosen
        return kept

    def _hole(self, position: int) -> ConstrainedHole | None:
        for hole in self.holes:
            if hole.start <= position and (hole.stop is None or position < hole.stop):
                return hole
        return None

    def fits(self, position: int, tokens: IntArray) -> BoolArray:
        """For which of `tokens` [any] there is a match with it at `position` of the sequence; outside of the holes all
        fit."""
        hole = self._hole(position)
        return np.ones(len(tokens), dtype=bool) if hole is None else hole.fits(position, tokens)


class FittingRows:
    """The rows of a pass, from which tokens that do not fit a constraint are left out as they come up.

    What is left of a row is the network's distribution over its other tokens. So a token that is drawn, and drawn again
    until it fits, is drawn from the distribution over those that fit, though few are ever looked at.

    Args:
        rows: as the network computed them, at the temperature of `sampler`.
        constraint: it has read the sequence.
        positions: [rows] of the sequence, which they predict.
        sampler: draws the tokens.
        draws: what it draws them from.
    """

    def __init__(
        self, rows: Rows, constraint: Constraint, positions: IntArray, sampler: Sampler, draws: UniformSource
    ) -> None:
        self._rows, self._constraint, self._positions = rows, constraint, positions
        self._sampler, self._draws = sampler, draws
        self._values = {name: getattr(rows, name).copy() for name in REDUCED}
        self._left_out: dict[int, list[IntArray]] = {}
        self._fetch = cache(rows.fetch_logits)

    def misfits(self, proposal: Proposal, rows: IntArray) -> IntArray:
        """Those of `rows` [any] whose token of `proposal` does not fit."""
        fit = [self._constraint.fits(self._positions[row], proposal.tokens[row : row + 1])[0] for row in rows.tolist()]
        found: IntArray = rows[~np.array(fit, dtype=bool)]
        return found

    def redraw(self, proposal: Proposal, rows: IntArray) -> Proposal:
        """`proposal`, in which the tokens of `rows` [any] have been drawn again until they fit."""
        while (rows := self.misfits(proposal, rows)).size:
            self._leave_all_out([row for row in rows.tolist() if not self._leave_out(row, int(proposal.tokens[row]))])
            values = {name: value[rows] for name, value in self._values.items()}
            left = Rows(**values, fetch_logits=partial(self._logits, rows), fresh=self._rows.fresh)
            proposal = merge_proposals(proposal, rows, self._sampler.propose(left, self._draws))
        return proposal

    def _leave_out(self, row: int, token: int) -> bool:
        """Leave `token`, which does not fit, out of `row`, and what does not fit among the best before the first that
        does. False where that was done before, or where the best tell too little."""
        best = self._values["top_ids"][row]
        position, left_out = int(self._positions[row]), self._left_out.setdefault(row, [])
        if len(left_out) >= _TRIES:
            return False
        fits = self._constraint.fits(position, best[:_BEST])
        same = np.flatnonzero(best == token)
        if not fits.any() or not same.size:
            return False
        columns = np.union1d(np.arange(fits.argmax()), same)
        if 1 - float(self._values["top_probs"][row, columns].sum()) < _LEAST_LEFT:
            return False
        left_out.append(best[columns])
        _exclude(self._values, row, columns)
        return True

    def _leave_all_out(self, rows: Sequence[int]) -> None:
        """Leave everything that does not fit out of `rows`."""
        if not rows:
            return
        every = np.arange(self._fetch().shape[1])
        for row in rows:
            self._left_out[row].append(np.flatnonzero(~self._constraint.fits(int(self._positions[row]), every)))
        chosen = np.array(rows)
        exact = Rows.from_logits(self._logits(chosen), self._sampler.temperature, self._values["top_ids"].shape[1])
        for name in REDUCED:
            self._values[name][chosen] = getattr(exact, name)

    def _logits(self, rows: IntArray) -> FloatArray:
        logits: FloatArray = self._fetch()[rows]
        for index, row in enumerate(rows.tolist()):
            for tokens in self._left_out.get(row, ()):
                logits[index, tokens] = NEVER
        return logits


def _exclude(values: dict[str, FloatArray], row: int, columns: IntArray) -> None:
    """Take the tokens in `columns` [any] out of the reduced outputs `values` of `row`: the others share their part."""
    probs = values["top_probs"][row, columns].astype(np.float64)
    left = 1 - probs.sum()
    information = values["neg_entropy"][row] - (probs * np.log(probs + 1e-10)).sum()
    values["neg_entropy"][row] = information / left - np.log(left)
    values["log_normalizer"][row] += np.log(left)
    values["top_probs"][row] /= left
    values["top_probs"][row, columns] = 0
    values["top_logits"][row, columns] = NEVER
    order = np.concatenate([np.delete(np.arange(values["top_ids"].shape[1]), columns), columns])
    for name in ("top_ids", "top_probs", "top_logits"):
        values[name][row] = values[name][row, order]
