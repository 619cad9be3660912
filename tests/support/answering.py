"""A network that knows all right answers to the questions it may be asked, and believes in each of them alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from dream_edge_runtime.format.model_config import ModelConfig

from .networks import FakeNetwork

Answers = Mapping[tuple[int, ...], Sequence[Sequence[int]]]


def answering_network(config: ModelConfig, answers: Answers) -> FakeNetwork:
    """The exact marginals of each masked token, given what stands on the canvas: a perfect masked diffusion model.

    `answers` has the ids of all right answers after each prompt; each ends in as many end tokens as there is room.
    Where nothing that stands on the canvas begins a right answer any more, all of them are believed in again.
    """

    def logits_of(ids: Tensor, valid: Tensor) -> Tensor:
        logits = torch.zeros(*ids.shape, config.vocab_size)
        for row, (line, real) in enumerate(zip(ids, valid, strict=True)):
            places = real.nonzero()[:, 0]
            canvas = line[places]
            prompt = next(each for each in answers if tuple(canvas[: len(each)].tolist()) == each)
            rest = canvas[len(prompt) :]
            every = torch.full((len(answers[prompt]), len(rest)), config.eos_token_id)
            for index, answer in enumerate(answers[prompt]):
                assert len(answer) <= len(rest)
                every[index, : len(answer)] = torch.tensor(answer)
            fits = ((every == rest) | (rest == config.mask_token_id)).all(dim=1)
            believed = every[fits] if fits.any() else every
            share = torch.zeros(len(rest), config.vocab_size)
            share.scatter_add_(1, believed.T, torch.full(believed.T.shape, 1 / len(believed)))
            start = len(prompt) - config.shift
            logits[row, places[start : start + len(rest)]] = torch.log(share + 1e-9)
        return logits

    return FakeNetwork(config, logits_of)
