"""The length of a canvas found by looking for the end of the text on it, restated with lists."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .networks import FakeNetwork


def length_found_plainly(
    network: FakeNetwork, prompt: Sequence[int], first: int, most: int, ends: frozenset[int]
) -> tuple[int, int]:
    """How many masks follow `prompt`, and how many passes it took to know."""
    masks, passes = min(first, most), 0
    while masks < most:
        canvas = [*prompt, *[network.config.mask_token_id] * masks]
        with torch.inference_mode():
            logits = network.logits_of(torch.tensor([canvas]), torch.ones(1, len(canvas), dtype=torch.bool))[0]
        passes += 1
        probs = logits.double().softmax(dim=-1)
        last = range(len(canvas) - max(1, min(32, masks // 2)), len(canvas))
        chances = [sum(float(probs[place - 1, end]) for end in ends) for place in last]  # the shift
        if sum(chances) / len(chances) >= 0.5:
            break
        masks = min(2 * masks, most)
    return masks, passes
