"""Drafts: texts that stand, but for tokens that the network finds unlikely where they are.

A masked-diffusion network says nothing of a token that it sees, so a token is judged while it is masked: beside the
likeliest that could stand there, in sight of the rest. A wrong token makes its neighbours look wrong too. So what is
doubted is masked together and judged once more, and the likeliest stands again, one at a pass, as long as there is one.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..arrays import BoolArray, FloatArray, IntArray
from ..inference.network import Network
from ..text.tokenizer import AlignedText, Tokenizer
from .canvas import Canvas
from .kv_cache import NoCache
from .loop import Revealed, check_finite


@dataclass(frozen=True)
class StandingText:
    """The draft that stands in a hole; see `text.template.Draft`."""

    text: AlignedText
    bound: float
    groups: int


def settle_drafts(
    network: Network,
    canvas: Canvas,
    row: int,
    drafts: Sequence[StandingText | None],
    tokenizer: Tokenizer,
    offset: int = 0,
    cancel: threading.Event | None = None,
) -> Revealed | None:
    """Settle what stands of the `drafts` in the holes of sequence `row`, whose first block begins `offset` positions
    before it; the rest stays masked. None where there are no drafts.

    Raises:
        Cancelled: `cancel` was set.
        NonFiniteLogits: the network's weights are broken.
    """
    if not any(drafts):
        return None
    return _Review(network, canvas, row, drafts, tokenizer, offset, cancel).settle()


class _Review:
    """Judges the tokens of the drafts of one sequence. Arrays are [tokens], in the order of the canvas."""

    def __init__(
        self,
        network: Network,
        canvas: Canvas,
        row: int,
        drafts: Sequence[StandingText | None],
        tokenizer: Tokenizer,
        offset: int,
        cancel: threading.Event | None,
    ) -> None:
        self._canvas, self._row, self._cancel = canvas, row, cancel
        self._cache = NoCache(network, None if network.config.causal_block is None else [offset] * (row + 1))
        standing = [(hole, draft) for hole, draft in zip(canvas.holes[row], drafts, strict=True) if draft]
        self._places = np.concatenate([np.arange(hole.start, hole.stop) for hole, _ in standing])
        self._tokens = np.concatenate([np.array(draft.text.ids) for _, draft in standing])
        self._bounds = np.concatenate([np.full(len(hole), draft.bound) for hole, draft in standing])
        self._groups = np.concatenate([np.arange(len(hole)) % draft.groups for hole, draft in standing])
        pieces = [piece for _, draft in standing for piece in draft.text.pieces]
        self._characters = np.cumsum([piece != "" for piece in pieces])  # each is rewritten as a whole
        self._blocks = (self._places + offset) // (network.config.causal_block or len(canvas.ids[row]) + offset)
        self._texts = np.ones(network.config.vocab_size, dtype=bool)  # tokens that could stand there
        self._texts[tokenizer.vocab_size :] = False
        self._texts[sorted(tokenizer.special_ids)] = False
        self._probability = np.ones(len(self._places), dtype=np.float32)
        self._passes = 0

    def settle(self) -> Revealed:
        """Block by block, where later ones are not seen. What no hidden state predicts stands."""
        self._canvas.reveal(self._row, self._places + self._canvas.first[self._row], self._tokens)
        doubted = np.zeros(len(self._places), dtype=bool)
        for block in np.unique(self._blocks):
            doubted |= self._doubt(np.flatnonzero((self._blocks == block) & (self._places >= self._canvas.shift)))
        self._canvas.mask(self._row, self._places[doubted] + self._canvas.first[self._row])
        order = np.argsort(-self._probability[~doubted], kind="stable")
        places, probability = self._places[~doubted][order], self._probability[~doubted][order]
        return Revealed(self._row, places, probability, self._passes, ends_block=not doubted.any())

    def _doubt(self, part: IntArray) -> BoolArray:
        """Which tokens [tokens] are doubted of `part` [any], the indices of those that are looked at."""
        share = np.ones(len(self._places), dtype=np.float32)
        for group in np.unique(self._groups[part]):
            mine = part[self._groups[part] == group]
            share[mine] = self._compare(mine)
        doubted = self._unlikely(share)
        while doubted.any():
            masked = np.flatnonzero(doubted)
            share[masked] = self._compare(masked)
            likely = masked[~self._unlikely(share)[masked]]
            if not likely.size:
                break
            doubted &= self._characters != self._characters[likely[share[likely].argmax()]]
        return doubted

    def _unlikely(self, share: FloatArray) -> BoolArray:
        """Which tokens [tokens] belong to a character one of whose tokens has a `share` [tokens] below the bound."""
        unlikely: BoolArray = np.isin(self._characters, self._characters[share < self._bounds])
        return unlikely

    def _compare(self, masked: IntArray) -> FloatArray:
        """How probable each token of `masked` [any] is beside the likeliest in its place, all of them being masked."""
        canvas, row, tokens = self._canvas, self._row, self._tokens[masked]
        positions = self._places[masked] + canvas.first[row]
        canvas.mask(row, positions)
        rows = self._cache.compute(canvas, {}, {row: positions}, 0.0, self._cancel)[row]
        canvas.reveal(row, positions, tokens)
        check_finite(rows, positions)
        self._passes += 1
        logits = rows.fetch_logits()
        own = logits[np.arange(len(masked)), tokens]
        self._probability[masked] = np.exp(own - rows.log_normalizer)
        share: FloatArray = np.exp(own - logits[:, self._texts].max(axis=1))
        return share
