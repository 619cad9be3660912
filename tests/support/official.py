"""Dream's `diffusion_generate`, restated in plain PyTorch from its description: the oracle for the runtime's loop.

Everything is fp32 tensor arithmetic on the whole canvas, masks are found by comparing ids, and nothing is clever.
Where upstream leaves an order open (`topk`, `sort` of equal values), ties go to the lowest position and the lowest id.
Random numbers come from functions, so that they can be shared with the code under test.

Where the last bit decides an order, it matters in which order a processor adds. Rounding is therefore that of PyTorch's
AVX-512 kernels, spelt out here, whatever this machine has: the runtime keeps to it everywhere too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

Model = Callable[[Tensor, Tensor | None], Tensor]
"""(ids [batch, length], valid) → logits fp32 [batch, length, vocab], before the shift."""
Uniform = Callable[[int], Tensor]
"""n → n numbers in [0, 1), fp64."""


def softmax(logits: Tensor) -> Tensor:
    """softmax over the last dimension of `logits` [rows, vocab]: sums in 16 lanes, then in halves."""
    exponentials = (logits - logits.amax(dim=-1, keepdim=True)).double().exp().float()
    lanes = torch.zeros(len(logits), 16)
    for start in range(0, logits.shape[1], 16):
        chunk = exponentials[:, start : start + 16]
        lanes[:, : chunk.shape[1]] += chunk
    for half in (8, 4, 2, 1):
        lanes = lanes[:, :half] + lanes[:, half:]
    return exponentials / lanes


def linspace(eps: float, count: int) -> Tensor:
    """torch.linspace(1, eps, count): from both ends to the middle, each number rounded once."""
    end = torch.tensor(eps)
    step = float((end - 1) / (count - 1))
    return torch.tensor([1 + step * i if i < count // 2 else float(end) - step * (count - 1 - i) for i in range(count)])


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
    history: list[Tensor] = field(default_factory=list)

    def sample(self, model: Model, x: Tensor, valid: Tensor | None = None, uniform: Uniform | None = None) -> Tensor:
        """Denoise `x` int64 [batch, length]; `history` gets the canvas after each step. Batches must be drawless."""
        timesteps = linspace(self.eps, self.steps + 1)
        x = self.tokens_hook(None, x, None)
        for i in range(self.steps):
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
        return x

    def _confidence_step(
        self, x: Tensor, logits: Tensor, mask_index: Tensor, t: Tensor, s: Tensor, last: bool, uniform: Uniform | None
    ) -> Tensor:
        num_mask_token = mask_index.sum() / mask_index.shape[0]
        count = int(num_mask_token) if last else int(num_mask_token * (1 - s / t))
        confidence, tokens = self.sample_tokens(logits[mask_index], uniform)
        full_confidence = torch.full(x.shape, -torch.inf)
        full_confidence[mask_index] = confidence
        proposed = torch.full_like(x, self.mask_token_id)
        proposed[mask_index] = tokens
        if count:
            best = full_confidence.sort(dim=1, descending=True, stable=True).indices[:, :count]
            x.scatter_(1, best, proposed.gather(1, best))
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
            confidence = torch.sum(probs * torch.log(probs + 1e-10), dim=-1)
        return confidence, tokens

    def filtered(self, logits: Tensor) -> Tensor:
        """Probabilities [rows, vocab] after temperature, top-p and top-k."""
        if self.temperature > 0:
            logits = logits / self.temperature
        lowest = torch.finfo(logits.dtype).min
        if self.top_p is not None and self.top_p < 1:
            in_order, indices = logits.sort(descending=True, stable=True)
            cumulative = softmax(in_order).cumsum(dim=-1)
            remove = cumulative > self.top_p
            remove = torch.cat([torch.zeros_like(remove[:, :1]), remove[:, :-1]], dim=-1)
            logits = logits.masked_fill(torch.zeros_like(remove).scatter(-1, indices, remove), lowest)
        if self.top_k is not None:
            kth = logits.topk(min(self.top_k, logits.shape[-1])).values[:, -1:]
            logits = logits.masked_fill(logits < kth, lowest)
        return softmax(logits)


def inverse_cdf(probs: Tensor, uniform: Tensor) -> Tensor:
    """The token [rows] whose share of [0, 1) holds each number, the most probable tokens first."""
    in_order, indices = probs.double().sort(dim=-1, descending=True, stable=True)
    place = (in_order.cumsum(-1) <= uniform[:, None]).sum(-1)
    place = place.minimum((in_order > 0).sum(-1) - 1)
    return indices.gather(1, place[:, None])[:, 0]
