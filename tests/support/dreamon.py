"""DreamOn's loop restated with lists: one sequence, one token a step, everything spelt out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from .networks import FakeNetwork


def infill_plainly(
    network: FakeNetwork, ids: Sequence[int], holes: Sequence[bool], most: int, *, algorithm: str, count: int = 1
) -> list[list[int]]:
    """The ids after each step. `holes` says which of `ids` are masks; `most` is how many tokens may be between the
    given ones; `count` tokens are revealed at a step. Greedy.
    """
    config = network.config
    tokens: list[int | None] = [None if hole else token for token, hole in zip(ids, holes, strict=True)]
    given = len(tokens) - sum(holes)
    budget, history = 2 * most, []
    while None in tokens:
        canvas = [config.mask_token_id if token is None else token for token in tokens]
        with torch.inference_mode():
            logits = network.logits_of(torch.tensor([canvas]), torch.ones(1, len(canvas), dtype=torch.bool))[0]
        logits = torch.cat([logits[:1], logits[:-1]]).clone()
        if len(tokens) - given >= most or budget == 0:
            logits[:, config.expand_token_id] -= 1e9
        probs = logits.softmax(dim=-1)
        masks = [place for place, token in enumerate(tokens) if token is None]
        if algorithm == "entropy":
            confidence = (probs * torch.log(probs + 1e-10)).sum(dim=-1)
        else:
            confidence = probs.max(dim=-1).values
        chosen = sorted(masks, key=lambda place: (-float(confidence[place]), place))[:count]
        for place in sorted(chosen, reverse=True):  # from the right, so that the places to the left stay
            token = int(np.flatnonzero(probs[place].numpy() == probs[place].max().item())[0])
            if token == config.eos_token_id:
                del tokens[place]
            elif token == config.expand_token_id:
                tokens[place : place + 1] = [None, None]
                budget -= 1
            elif token != config.mask_token_id:
                tokens[place] = token
        history.append([config.mask_token_id if token is None else token for token in tokens])
        assert len(history) < 10 * most + 100
    return history
