"""Reveals of several tokens at once, as many as are sure enough."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...arrays import IntArray
from ...inference.network import Rows
from ..option import Real
from ..sampling import Proposal, UniformSource
from ..schedule import Timestep
from . import ParallelReveal, Reveal, register


@register("threshold")
class ConfidenceThreshold(ParallelReveal):
    """Reveal the first positions as long as the proposed token of each has a probability of at least `value`.

    Ordered by probability, these are all that are so probable. Wu et al., "Fast-dLLM" (arXiv 2505.22618), section 3.3.
    """

    within = Real(0, 1, open_low=True)
    default = 0.9
    help = "tokens while each is at least X probable"
    source = "Fast-dLLM, arXiv 2505.22618"

    def select(self, best_first: IntArray, judged: Proposal, timestep: Timestep) -> IntArray:
        return take_sure(best_first, judged, self.value)


def take_sure(best_first: IntArray, judged: Proposal, threshold: float) -> IntArray:
    """The first of the indices `best_first` [asked], as long as each token is at least `threshold` probable."""
    enough = judged.probability[best_first] >= threshold
    return best_first[: int(np.logical_and.accumulate(enough).sum())]


@register("falling_threshold")
class FallingThreshold(ParallelReveal):
    """A threshold that falls from `value` by three tenths of it as the masks of the block become fewer.

    Xiao et al., "Streaming-dLLM" (arXiv 2601.17917), section 3.3, with the alpha of its evaluation on Dream. (Its
    program counts the masks that are seen after the block too, and so falls half as far.)
    """

    within = Real(0, 1, open_low=True)
    default = 0.9
    help = "as threshold, which falls from X to 0.7 X as the masks of the block become fewer"
    source = "Streaming-dLLM, arXiv 2601.17917"
    alpha: ClassVar[float] = 0.3

    def select(self, best_first: IntArray, judged: Proposal, timestep: Timestep) -> IntArray:
        return take_sure(best_first, judged, self.value * (1 - self.alpha * (1 - timestep.left)))


@register("factor")
class ConfidenceFactor(ParallelReveal):
    """Reveal the first n positions as long as (n + 1)(1 - c) < `value`.

    c is the lowest probability among the n proposed tokens: the more positions are revealed together, the surer each of
    them must be for their joint choice to be the best one. Wu et al., "Fast-dLLM" (arXiv 2505.22618), section 3.3.
    """

    within = Real(0, 1e6, open_low=True)
    default = 1.0
    help = "n tokens while (n + 1)(1 - the least probability among them) is below X"
    source = "Fast-dLLM, arXiv 2505.22618"

    def select(self, best_first: IntArray, judged: Proposal, timestep: Timestep) -> IntArray:
        lowest = np.minimum.accumulate(judged.probability[best_first].astype(np.float64))
        doubt = (np.arange(len(lowest)) + 2) * (1 - lowest)
        return best_first[: int((doubt < self.value).sum())]


@register("entropy_bound")
class EntropyBound(ParallelReveal):
    """Reveal the first n positions whose entropies, all but the largest, sum to at most `value` nats.

    That sum bounds how much the positions may still tell about each other, so how wrong it can be to draw them
    independently. The first must be that sure itself, which matters where the order is not that of entropy. Ben-Hamu et
    al., "Accelerated Sampling from Masked Diffusion Models via Entropy Bounded Unmasking" (arXiv 2505.24857).
    """

    within = Real(0, 1e6)
    default = 0.1
    help = "n tokens while their entropies, without the largest, sum to at most X nats"
    source = "EB-sampler, arXiv 2505.24857"

    def select(self, best_first: IntArray, judged: Proposal, timestep: Timestep) -> IntArray:
        entropy = np.maximum(-judged.neg_entropy[best_first].astype(np.float64), 0)
        excess = np.cumsum(entropy) - np.maximum.accumulate(entropy)
        return best_first[: int((excess <= self.value).sum()) if entropy[0] <= self.value else 0]


@register("low_confidence")
class LowConfidence(ParallelReveal):
    """Reveal every token that is more probable than `value`, and at least the step's even share of the masks.

    The published loop of block-causal models: DreamReasoner's low_confidence_dynamic, and Wu et al., "Fast-dLLM v2"
    (arXiv 2509.26328), section 3.3, with one token at least.
    """

    within = Real(0, 1)
    default = 0.9
    help = "all tokens that are more than X probable, as published: by the distribution that they are drawn from"
    source = "DreamReasoner, arXiv 2606.19257"
    as_published = True

    def choose(
        self, proposal: Proposal, rows: Rows, positions: IntArray, timestep: Timestep, draws: UniformSource
    ) -> IntArray:
        best_first = self.ranking.best_first(proposal, positions, draws)
        if timestep.last:
            return best_first
        sure = best_first[proposal.probability[best_first] > np.float32(self.value)]
        share, more = divmod(timestep.masks or 0, timestep.steps)
        least = max(1, share + (timestep.index < more))
        return sure if sure.size >= least else best_first[:least]


@register("count")
class Count(ParallelReveal):
    """Reveal the first `value` positions, rounded down, however sure they are.

    Static parallel decoding: what it breaks is what `dream-edge score` measures. Kang et al., "ParallelBench" (arXiv
    2510.04767).
    """

    within = Real(1, 1e6)
    default = 2.0
    help = "X tokens, however sure they are, also neighbours that are the same"
    source = "ParallelBench, arXiv 2510.04767"
    as_published = True

    def select(self, best_first: IntArray, judged: Proposal, timestep: Timestep) -> IntArray:
        return best_first[: int(self.value)]


@dataclass(frozen=True)
class Unrepeated:
    """What `reveal` chooses, but of two neighbours with the same token only the first in order, up to the last step.

    Tokens that are revealed together do not see each other, so a word whose place is uncertain by one comes twice ("the
    the"). The one that is held back is asked about again once the other stands. Runs of `exempt` tokens, which end and
    pad a text, are right.
    """

    reveal: Reveal
    exempt: frozenset[int] = frozenset()

    def ask(self, masked: int, timestep: Timestep, draws: UniformSource) -> IntArray:
        return self.reveal.ask(masked, timestep, draws)

    def choose(
        self, proposal: Proposal, rows: Rows, positions: IntArray, timestep: Timestep, draws: UniformSource
    ) -> IntArray:
        chosen = self.reveal.choose(proposal, rows, positions, timestep, draws)
        if timestep.last or len(chosen) < 2:
            return chosen
        rank = np.argsort(positions[chosen])  # from the left, the place of each in the order
        places, tokens = positions[chosen][rank], proposal.tokens[chosen][rank]
        twins = (np.diff(places) == 1) & (tokens[1:] == tokens[:-1]) & ~np.isin(tokens[1:], list(self.exempt))
        kept = np.ones(len(chosen), dtype=bool)
        kept[np.maximum(rank[1:], rank[:-1])[twins]] = False
        return chosen[kept]
