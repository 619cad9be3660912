"""The canvas: prompt tokens and masks, and which is which.

Masks are known by position, never by comparing ids: a prompt that contains the mask token is text. Only a position that
was masked, and is "revealed" as the mask id, is still masked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..arrays import BoolArray, IntArray
from ..errors import InvalidTokenId


@dataclass(frozen=True)
class MaskedSequence:
    """One sequence before the first step: the tokens that are given, and the holes to fill."""

    ids: IntArray
    """[length]; the mask id in the holes."""
    masked: BoolArray
    """[length]; true in the holes."""
    holes: tuple[range, ...]

    @classmethod
    def of(cls, parts: Iterable[Sequence[int] | int], mask_id: int) -> MaskedSequence:
        """Lay `parts` one after the other: token ids, or the size of a hole."""
        ids: list[int] = []
        holes = []
        for part in parts:
            if isinstance(part, int):
                holes.append(range(len(ids), len(ids) + part))
                ids += [mask_id] * part
            else:
                ids += part
        masked = np.zeros(len(ids), dtype=bool)
        for hole in holes:
            masked[hole.start : hole.stop] = True
        return cls(np.array(ids, dtype=np.int64), masked, tuple(holes))


class Canvas:
    """A batch of sequences of unequal length, padded on the left. The mutable state of one generation.

    Attributes:
        ids: int64 [batch, length]
        masked: bool [batch, length] which positions are still to be revealed.
        valid: bool [batch, length] false for padding.
        position_ids: int64 [batch, length] counted from each sequence's first token.
        shift: how many positions ahead of a hidden state its predicted token stands (0 or 1).
        first: int64 [batch] where each sequence begins.
        holes: of each sequence, the positions that were to be generated, counted from its first token.
        rearranged: how often positions have moved.
    """

    def __init__(self, sequences: Sequence[MaskedSequence], mask_id: int, pad_id: int, shift: int) -> None:
        lengths = np.array([len(sequence.ids) for sequence in sequences], dtype=np.int64)
        length = int(lengths.max())
        self.mask_id: int = mask_id
        self.pad_id: int = pad_id
        self.shift: int = shift
        self.holes: list[tuple[range, ...]] = [sequence.holes for sequence in sequences]
        self.rearranged: int = 0
        self._align(lengths)
        self.ids: IntArray = np.full((len(sequences), length), pad_id, dtype=np.int64)
        self.masked: BoolArray = np.zeros((len(sequences), length), dtype=bool)
        for row, sequence in enumerate(sequences):
            self.ids[row, self.first[row] :] = sequence.ids
            self.masked[row, self.first[row] :] = sequence.masked

    def _align(self, lengths: IntArray) -> None:
        """Put sequences of `lengths` [batch] after the padding they need."""
        length = int(lengths.max())
        self.first: IntArray = length - lengths
        self.valid: BoolArray = np.arange(length) >= self.first[:, None]
        self.position_ids: IntArray = np.maximum(self.valid.cumsum(axis=1) - 1, 0)

    def sequence(self, row: int) -> IntArray:
        """Ids [its length] of sequence `row`, without padding: a copy."""
        return self.ids[row, self.first[row] :].copy()

    def sequence_masked(self, row: int) -> BoolArray:
        """Which positions of sequence `row` are masked, without padding: a copy."""
        return self.masked[row, self.first[row] :].copy()

    def masked_share(self, row: int) -> float:
        """Which part of the holes of sequence `row` is masked, 0 to 1."""
        return min(1.0, float(self.masked[row].sum() / max(sum(map(len, self.holes[row])), 1)))

    def reveal(self, row: int, positions: IntArray, tokens: IntArray) -> BoolArray:
        """Settle `positions` of `row` as `tokens`; says for each whether it is settled now.

        The mask id settles nothing: the position stays masked, as upstream.
        """
        settled: BoolArray = tokens != self.mask_id
        self.ids[row, positions] = tokens
        self.masked[row, positions] = ~settled
        return settled

    def rewrite(self, row: int, ids: IntArray, vocab_size: int) -> None:
        """Replace sequence `row` by `ids` [its length]. Changed to the mask id = masked again; to another = settled.

        Raises:
            InvalidTokenId: an id outside the vocabulary.
        """
        outside = (ids < 0) | (ids >= vocab_size)
        if outside.any():
            raise InvalidTokenId(int(ids[outside][0]), vocab_size)
        first = self.first[row]
        changed = ids != self.ids[row, first:]
        self.masked[row, first:] = np.where(changed, ids == self.mask_id, self.masked[row, first:])
        self.ids[row, first:] = ids

    def mask(self, row: int, positions: IntArray) -> None:
        """Mask `positions` of `row` again."""
        self.ids[row, positions] = self.mask_id
        self.masked[row, positions] = True

    def repeat(self, row: int, counts: IntArray) -> IntArray:
        """Repeat position i of sequence `row` `counts[i]` times; 0 deletes it, extra copies become masks.

        Holes follow, and so does the padding of the other sequences.

        Returns:
            int64 [batch, length] for each position of the new canvas the one it had before; anything for padding.
        """
        lengths = self.valid.sum(axis=1)
        kept = [np.arange(length) for length in lengths]
        kept[row] = np.repeat(kept[row], counts)
        before = self.first
        self._align(np.array([len(each) for each in kept], dtype=np.int64))
        source = np.zeros(self.valid.shape, dtype=np.int64)
        source[self.valid] = np.concatenate([first + each for first, each in zip(before, kept, strict=True)])
        self.ids = np.where(self.valid, np.take_along_axis(self.ids, source, axis=1), self.pad_id)
        self.masked = self.valid & np.take_along_axis(self.masked, source, axis=1)
        self.mask(row, self.first[row] + 1 + np.flatnonzero(np.diff(kept[row]) == 0))
        start = np.concatenate([[0], np.cumsum(counts)]).tolist()
        self.holes[row] = tuple(range(start[hole.start], start[hole.stop]) for hole in self.holes[row])
        self.rearranged += 1
        return source

    def logit_rows(self, row: int, positions: IntArray) -> IntArray:
        """Which hidden states of sequence `row` predict the tokens at `positions`: those `shift` before them.

        A sequence's first token has none before it and goes by its own, as position 0 does upstream. (Upstream would
        take the padding's hidden state where there is padding.)
        """
        rows: IntArray = np.maximum(positions - self.shift, self.first[row])
        return rows
