"""Decoding of several tokens at once, restated from the papers: plain loops over full logits, one sequence at a time.

The oracle for the strategies of `dream_edge_runtime.generation.reveal`. A rule sees the masked positions of the
current block from the most to the least confident, and says which of them are revealed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile

import torch
from torch import Tensor

from .networks import FakeNetwork


@dataclass
class Candidate:
    """One masked position."""

    position: int
    logits: Tensor
    """[vocab]"""

    @cached_property
    def probs(self) -> Tensor:
        return torch.softmax(self.logits, dim=-1)

    @cached_property
    def token(self) -> int:
        return int(self.probs.argmax())

    @cached_property
    def probability(self) -> float:
        return float(self.probs.max())

    @cached_property
    def margin(self) -> float:
        best, second = self.probs.topk(2).values
        return float(best - second)

    @cached_property
    def entropy(self) -> float:
        return -float((self.probs * torch.log(self.probs + 1e-10)).sum())


CONFIDENCE: dict[str, Callable[[Candidate], float]] = {
    "maskgit_plus": lambda candidate: candidate.probability,
    "topk_margin": lambda candidate: candidate.margin,
    "entropy": lambda candidate: -candidate.entropy,
    "left_to_right": lambda candidate: -candidate.position,
}
Rule = Callable[[list[Candidate], float], list[Candidate]]
"""(candidates, best first; which share of the block's masks is left) → which are revealed."""


def threshold(least: float) -> Rule:
    """Fast-dLLM's, in any order: those before the first that is less probable; the best where none is."""

    def rule(best_first: list[Candidate], _left: float) -> list[Candidate]:
        return list(takewhile(lambda each: each.probability >= least, best_first)) or best_first[:1]

    return rule


def falling_threshold(first: float) -> Rule:
    """Streaming-dLLM's with alpha 0.3, over the masks of the block."""

    def rule(best_first: list[Candidate], left: float) -> list[Candidate]:
        return threshold(first * (1 - 0.3 * (1 - left)))(best_first, left)

    return rule


def factor(f: float) -> Rule:
    """Fast-dLLM: the largest n for which (n + 1)(1 - c) < f, c the lowest confidence among the n first."""

    def rule(best_first: list[Candidate], _left: float) -> list[Candidate]:
        count = 1
        for n in range(1, len(best_first) + 1):
            if (n + 1) * (1 - min(each.probability for each in best_first[:n])) < f:
                count = max(count, n)
        return best_first[:count]

    return rule


def entropy_bound(gamma: float) -> Rule:
    """EB-sampler: the largest prefix whose entropies sum to at most gamma more than the largest of them; the first
    alone where its own is more than gamma."""

    def rule(best_first: list[Candidate], _left: float) -> list[Candidate]:
        count = 1
        for n in range(1, len(best_first) + 1):
            entropies = [each.entropy for each in best_first[:n]]
            if entropies[0] <= gamma and sum(entropies) - max(entropies) <= gamma:
                count = n
        return best_first[:count]

    return rule


def low_confidence(least: float) -> Rule:
    """The published loops of block-causal models: all that are more probable, wherever they stand; or the best."""

    def rule(best_first: list[Candidate], _left: float) -> list[Candidate]:
        return [each for each in best_first if each.probability > least] or best_first[:1]

    return rule


def count(most: float) -> Rule:
    """As many as it says, the best ones."""

    def rule(best_first: list[Candidate], _left: float) -> list[Candidate]:
        return best_first[: int(most)]

    return rule


def without_echoes(revealed: list[Candidate], exempt: int) -> list[Candidate]:
    """Of two neighbours with the same token only the one that comes first in `revealed`; any number of `exempt`."""
    kept = []
    for rank, each in enumerate(revealed):
        surer = [other for other in revealed[:rank] if abs(other.position - each.position) == 1]
        if each.token == exempt or all(other.token != each.token for other in surer):
            kept.append(each)
    return kept


def denoise_in_parallel(
    network: FakeNetwork,
    prompt: list[int],
    length: int,
    new_rule: Callable[[], Rule],
    *,
    algorithm: str = "maskgit_plus",
    steps: int | None = None,
    block_length: int | None = None,
    echoes: bool = False,
) -> list[list[int]]:
    """The canvas after every step that a sequence takes: greedy, blocks from left to right, all at the last step."""
    mask = network.config.mask_token_id
    ids = prompt + [mask] * length
    size = block_length or length
    blocks = [range(start, min(start + size, len(ids))) for start in range(len(prompt), len(ids), size)]
    rule, history = new_rule(), []
    for index, block in enumerate(blocks):
        share = max(1, (steps or length) // len(blocks) + (index < (steps or length) % len(blocks)))
        for step in range(share):
            masked = [position for position in block if ids[position] == mask]
            if not masked:
                break
            with torch.inference_mode():
                logits = network.logits_of(torch.tensor([ids]), torch.ones(1, len(ids), dtype=torch.bool))[0]
            candidates = [Candidate(position, logits[max(position - 1, 0)]) for position in masked]
            best_first = sorted(candidates, key=lambda each: -CONFIDENCE[algorithm](each))
            revealed = best_first
            if step < share - 1:
                revealed = rule(best_first, len(masked) / len(block))
                if not echoes:
                    revealed = without_echoes(revealed, network.config.pad_token_id)
            for each in revealed:
                ids[each.position] = each.token
            history.append(list(ids))
    return history
