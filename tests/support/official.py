"""Dream's `diffusion_generate`, restated in plain PyTorch from its description: the oracle for the runtime's loop.

Everything is tensor arithmetic on the whole canvas, masks are found by comparing ids, and nothing is clever.
Where upstream leaves an order open (`topk`, `sort` of equal values), ties go to the lowest position and the lowest id.
Random numbers come from functions, so that they can be shared with the code under test.

It runs in either of two arithmetics. `EXACT` is what the runtime promises on every machine: nothing may differ from it.
`TORCH` is upstream's fp32 on the machine at hand, whose last bits depend on how many numbers its kernels add at once;
what may differ from that is said by `units_from_official`, and by nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

Model = Callable[[Tensor, Tensor | None], Tensor]
"""(ids [batch, length], valid) → logits fp32 [batch, length, vocab], before the shift."""
Uniform = Callable[[int], Tensor]
"""n → n numbers in [0, 1), fp64."""


@dataclass(frozen=True)
class Arithmetic:
    """How the three results are rounded from which positions are put in order and counted."""

    softmax: Callable[[Tensor], Tensor]
    """Probabilities [rows, vocab] of logits [rows, vocab]."""
    sum_last: Callable[[Tensor, Tensor], Tensor]
    """(p, p + 1e-10) fp32 [rows, vocab] → the sum [rows] of p · log(p + 1e-10)."""
    linspace: Callable[[float, int], Tensor]
    """(eps, count) → that many times from 1 to eps."""


TORCH = Arithmetic(
    softmax=lambda logits: logits.softmax(-1),
    sum_last=lambda probs, shifted: torch.sum(probs * torch.log(shifted), dim=-1),
    linspace=lambda eps, count: torch.linspace(1, eps, count),
)
"""PyTorch's own kernels, whatever this machine has."""
EXACT = Arithmetic(
    softmax=lambda logits: (logits - logits.amax(dim=-1, keepdim=True)).double().softmax(-1).float(),
    sum_last=lambda probs, shifted: torch.sum(probs.double() * torch.log(shifted.double()), dim=-1).float(),
    linspace=lambda eps, count: torch.tensor([1 + (eps - 1) / (count - 1) * i for i in range(count - 1)] + [eps]),
)
"""In double precision, each result rounded to fp32 once."""


@dataclass(frozen=True)
class Choice:
    """What was chosen at a step, and from what."""

    masked: Tensor
    """[batch, length] what was masked before."""
    after: Tensor
    """[batch, length] the canvas."""
    wanted: float
    """How many positions of a sequence are to be revealed, before that is truncated."""
    confidence: Tensor | None
    """[batch, length], -inf where nothing is masked. None: positions are drawn."""
    probs: Tensor
    """[masked, vocab] of the masked positions, by sequence and position."""


@dataclass
class Official:
    """Options under their upstream names, and what was recorded."""

    mask_token_id: int
    steps: int
    alg: str = "origin"
    eps: float = 1e-3
    temperature: float = 0.0
    top_p: float | None = None
    top_k: int | None = None
    alg_temp: float | None = None
    eos_penalty: float = 0.0
    pad_token_id: int = 0
    logits_hook: Callable[[int, Tensor, Tensor], Tensor] = lambda _step, _x, logits: logits
    tokens_hook: Callable[[int | None, Tensor, Tensor | None], Tensor] = lambda _step, x, _logits: x
    arithmetic: Arithmetic = EXACT
    history: list[Tensor] = field(default_factory=list)
    choices: list[Choice] = field(default_factory=list)

    def sample(
        self,
        model: Model,
        x: Tensor,
        valid: Tensor | None = None,
        uniform: Uniform | None = None,
        given: Sequence[Tensor] | None = None,
    ) -> Tensor:
        """Denoise `x` int64 [batch, length]; `history` gets the canvas after each step. Batches must be drawless.

        With the canvases `given`, each step begins with its own, so that one difference does not bring others.
        """
        timesteps = self.arithmetic.linspace(self.eps, self.steps + 1)
        x = self.tokens_hook(None, x, None)
        for i in range(self.steps):
            x = x if given is None else given[i]
            mask_index = x == self.mask_token_id
            logits = model(x, valid)
            logits = torch.cat([logits[:, :1], logits[:, :-1]], dim=1)
            logits = self.logits_hook(i, x, logits)
            t, s = timesteps[i], timesteps[i + 1]
            if self.eos_penalty:
                logits = logits.clone()
                logits[..., self.pad_token_id] += self.eos_penalty * torch.log(1 - t + self.eps)
            step = self._origin_step if self.alg == "origin" else self._confidence_step
            x = step(x.clone(), logits, mask_index, t, s, i == self.steps - 1, uniform)
            x = self.tokens_hook(i, x, logits)
            self.history.append(x.clone())
        return x

    def _origin_step(
        self, x: Tensor, logits: Tensor, mask_index: Tensor, t: Tensor, s: Tensor, last: bool, uniform: Uniform | None
    ) -> Tensor:
        assert uniform
        p_transfer = torch.tensor(1.0) if last else 1 - s / t
        masked = mask_index.nonzero()
        transfer = uniform(len(masked)) < p_transfer
        chosen = masked[transfer]
        if len(chosen):
            rows, columns = chosen.T
            x[rows, columns] = self.sample_tokens(logits[rows, columns], uniform)[1]
        probs = self.filtered(logits[mask_index])
        self.choices.append(Choice(mask_index, x.clone(), float(len(chosen)), None, probs))
        return x

    def _confidence_step(
        self, x: Tensor, logits: Tensor, mask_index: Tensor, t: Tensor, s: Tensor, last: bool, uniform: Uniform | None
    ) -> Tensor:
        num_mask_token = mask_index.sum() / mask_index.shape[0]
        wanted = num_mask_token if last else num_mask_token * (1 - s / t)
        count = int(wanted)
        confidence, tokens = self.sample_tokens(logits[mask_index], uniform)
        full_confidence = torch.full(x.shape, -torch.inf)
        full_confidence[mask_index] = confidence
        proposed = torch.full_like(x, self.mask_token_id)
        proposed[mask_index] = tokens
        if count:
            best = full_confidence.sort(dim=1, descending=True, stable=True).indices[:, :count]
            x.scatter_(1, best, proposed.gather(1, best))
        probs = self.filtered(logits[mask_index])
        self.choices.append(Choice(mask_index, x.clone(), float(wanted), full_confidence, probs))
        return x

    def sample_tokens(self, logits: Tensor, uniform: Uniform | None = None) -> tuple[Tensor, Tensor]:
        """Confidence [rows] and tokens [rows] for `logits` [rows, vocab]."""
        probs = self.filtered(logits)
        if self.temperature > 0:
            assert uniform
            tokens = inverse_cdf(probs, uniform(len(probs)))
            confidence = probs.gather(1, tokens[:, None])[:, 0]
        else:
            confidence, tokens = probs.max(dim=-1)
            tokens = (probs == confidence[:, None]).int().argmax(dim=-1)  # the lowest id of equal ones
        if self.alg == "topk_margin":
            best = probs.sort(dim=-1, descending=True).values
            confidence = best[:, 0] - best[:, 1]
        if self.alg == "entropy":
            confidence = self.arithmetic.sum_last(probs, probs + 1e-10)
        return confidence, tokens

    def filtered(self, logits: Tensor) -> Tensor:
        """Probabilities [rows, vocab] after temperature, top-p and top-k."""
        if self.temperature > 0:
            logits = logits / self.temperature
        lowest = torch.finfo(logits.dtype).min
        if self.top_p is not None and self.top_p < 1:
            in_order, indices = logits.sort(descending=True, stable=True)
            cumulative = self.arithmetic.softmax(in_order).cumsum(dim=-1)
            remove = cumulative > self.top_p
            remove = torch.cat([torch.zeros_like(remove[:, :1]), remove[:, :-1]], dim=-1)
            logits = logits.masked_fill(torch.zeros_like(remove).scatter(-1, indices, remove), lowest)
        if self.top_k is not None:
            kth = logits.topk(min(self.top_k, logits.shape[-1])).values[:, -1:]
            logits = logits.masked_fill(logits < kth, lowest)
        return self.arithmetic.softmax(logits)


def inverse_cdf(probs: Tensor, uniform: Tensor) -> Tensor:
    """The token [rows] whose share of [0, 1) holds each number, the most probable tokens first."""
    in_order, indices = probs.double().sort(dim=-1, descending=True, stable=True)
    place = (in_order.cumsum(-1) <= uniform[:, None]).sum(-1)
    place = place.minimum((in_order > 0).sum(-1) - 1)
    return indices.gather(1, place[:, None])[:, 0]


UNIT = 2.0**-24
"""Half the distance of fp32 numbers at 1: the rounding of one sum there."""
TIE = 4
"""Up to so many units the official choice is a tie."""


def units_from_official(choice: Choice, ours: Tensor, mask_token_id: int) -> float:
    """By how many units of rounding the official step prefers what it chose to `ours` [1, length]; inf: not comparable.

    PyTorch's softmax divides by a sum of fp32 numbers, which is some roundings off, by more or fewer according to the
    processor. So is every probability and every margin, and an entropy by as many times 1 + its size. What hangs on no
    more than `TIE` of these roundings the official loop does not decide itself:

    - which positions are revealed: none that stays masked is surer than one of `ours` by more;
    - which token: none is more probable than that of `ours` by more;
    - how many positions: the number wanted lies within so many roundings of each mask's share of a whole number.
    """
    masked, after = choice.masked[0], choice.after[0]
    stays = ours[0][masked] == mask_token_id
    units = [0.0]
    if choice.confidence is None:
        if not torch.equal(stays, after[masked] == mask_token_id):
            return math.inf
    elif stays.any() and not stays.all():
        surest, least = (confidence := choice.confidence[0][masked])[stays].max(), confidence[~stays].min()
        units.append(float((surest - least) / (1 + surest.abs())) / UNIT)
    revealed, wanted = int((~stays).sum()), choice.wanted
    if revealed != int(wanted):
        if abs(revealed - wanted) > 1:
            return math.inf
        units.append(abs(wanted - round(wanted)) / len(stays) / UNIT)
    chosen = choice.probs[~stays].gather(1, ours[0][masked][~stays][:, None])
    units += ((choice.probs[~stays].amax(1, keepdim=True) - chosen) / UNIT).flatten().tolist()
    return max(units)
