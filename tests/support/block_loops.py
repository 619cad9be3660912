"""A block-causal network for tests of the loop, and the published loops of block-causal models, restated plainly."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np

import dream_edge
from dream_edge_runtime.arrays import BoolArray, FloatArray, IntArray
from dream_edge_runtime.format.model_config import ModelConfig
from dream_edge_runtime.inference.network import KeyValues, Rows
from dream_edge_runtime.model import DreamModel
from dream_edge_runtime.text.tokenizer import Tokenizer

from .networks import tiny_vocabulary
from .remembering import Snapshot, rows_of_batch

BLOCK = 8
MASK, END = 47, 46  # of `tiny_vocabulary`
LogitsOf = Callable[[list[int]], FloatArray]
"""Logits [length, vocab] of the whole canvas, row i for position i (whatever the shift of the network)."""


class BlockNetwork:
    """Logits that depend on every token that a position attends to, computed in this pass or an earlier one."""

    def __init__(self, config: ModelConfig, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.config, self.keeps_keys, self.pass_overhead = config, True, 0
        self._tokens = rng.standard_normal((config.vocab_size, 16))
        self._places = rng.standard_normal((config.max_position_embeddings, 16))
        self._head = rng.standard_normal((16, config.vocab_size)) * 0.75
        self.active: list[list[int]] = []
        """The positions that each pass computed, of each sequence."""
        self.passes = 0

    def logits_at(self, ids: IntArray, positions: IntArray, keys: Snapshot, mask: BoolArray) -> FloatArray:
        """fp32 [rows, vocab], given which keys [rows, keys] each row attends to; the mask is never proposed."""
        context = mask @ (self._tokens[keys.ids] * np.cos(self._places[keys.positions]))
        own = 3 * self._tokens[ids] * np.cos(self._places[positions])
        logits: FloatArray = (np.sin(own + context + self._places[positions]) @ self._head).astype(np.float32)
        logits[:, self.config.mask_token_id] = -100
        logits[:, self.config.eos_token_id] -= 2
        return logits

    def predictions(self, offset: int = 0) -> LogitsOf:
        """What it says of each position of a whole canvas, under the block-causal mask."""
        block = self.config.causal_block
        assert block is not None

        def logits_of(ids: list[int]) -> FloatArray:
            everything = np.arange(len(ids))
            rows = np.maximum(0, everything - self.config.shift)
            mask = (everything + offset) // block <= (rows[:, None] + offset) // block
            whole = np.array(ids)
            return self.logits_at(whole[rows], rows, Snapshot(whole, everything), mask)

        return logits_of

    def forward(
        self,
        input_ids: IntArray,
        position_ids: IntArray,
        attention_mask: BoolArray,
        logit_rows: IntArray,
        temperature: float,
        cancel: threading.Event | None = None,
        *,
        past: KeyValues | None = None,
        keep: bool = False,
    ) -> Rows:
        assert logit_rows.size
        logits = []
        for active, keys, mask, asked in rows_of_batch(input_ids, position_ids, attention_mask, logit_rows, past):
            seen = mask.any(axis=0)
            assert (keys.positions[seen] == np.arange(seen.sum())).all()
            mask = np.broadcast_to(mask, (active.count, keys.count))[asked]
            self.active.append(sorted(set(active.positions.tolist())))
            logits.append(self.logits_at(active.ids[asked], active.positions[asked], keys, mask))
        self.passes += 1
        rows = Rows.from_logits(np.concatenate(logits), temperature)
        kept = Snapshot(input_ids, position_ids) if len(input_ids) > 1 else Snapshot(input_ids[0], position_ids[0])
        return replace(rows, key_values=kept if keep else None)


@cache
def _tokenizer() -> Tokenizer:
    return dream_edge.load("tiny", threads=1).tokenizer


def make_block_model(shift: int = 0, seed: int = 0, vocab_size: int = 48) -> tuple[DreamModel, BlockNetwork]:
    """A model in blocks of `BLOCK`, and its network."""
    network = BlockNetwork(tiny_vocabulary(vocab_size, shift=shift, causal_block=BLOCK), seed)
    return DreamModel(network, _tokenizer()), network


def prompt_of(length: int, seed: int = 0) -> list[int]:
    return [int(each) for each in np.random.default_rng([seed, length]).integers(END, size=length)]


def _propose(logits: FloatArray) -> tuple[IntArray, FloatArray]:
    """The most probable token [rows] of each row, and its probability [rows]."""
    exponentials = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    probabilities = exponentials / exponentials.sum(axis=-1, keepdims=True)
    tokens: IntArray = probabilities.argmax(axis=-1)
    return tokens, probabilities.max(axis=-1).astype(np.float32)


def _best(confidence: FloatArray, count: int) -> list[int]:
    """The `count` highest, of equal ones the first."""
    return sorted(range(len(confidence)), key=lambda index: (-confidence[index], index))[:count]


def dream_reasoner(
    logits_of: LogitsOf,
    prompt: list[int],
    new: int,
    block: int,
    mask: int,
    *,
    threshold: float | None = 0.9,
    steps: int | None = None,
) -> list[list[int]]:
    """The canvas after each step of `block_diffusion_generate`, "low_confidence_dynamic" or, without a threshold,
    "low_confidence_static". It has whole blocks; those of the prompt's last block that are its own stay."""
    steps = steps or block
    counts = [block // steps + (index < block % steps) for index in range(steps)]
    blocks = -(-(len(prompt) + new) // block)
    x = prompt + [mask] * (blocks * block - len(prompt))
    settled = len(prompt)
    history = []
    for number in range(len(prompt) // block, blocks):
        inside = range(number * block, (number + 1) * block)
        masked = {place for place in inside if place >= settled}
        for step in range(steps):
            if not masked:
                break
            seen = x[: inside.stop]
            tokens, confidence = _propose(logits_of(seen)[inside.start :])
            candidates = np.array(
                [p if place in masked else -np.inf for place, p in zip(inside, confidence, strict=True)]
            )
            high = [
                index for index in range(block) if threshold is not None and candidates[index] > np.float32(threshold)
            ]
            count = max(1, counts[step])
            chosen = high if threshold is not None and len(high) >= count else _best(candidates, count)
            if step == steps - 1:
                chosen = [place - inside.start for place in masked]
            for index in chosen:
                if inside.start + index in masked:
                    x[inside.start + index] = int(tokens[index])
                    masked.remove(inside.start + index)
            history.append(list(x))
    return history


def fast_dllm_v2(
    logits_of: LogitsOf, prompt: list[int], blocks: int, block: int, small: int, mask: int, stop: int, threshold: float
) -> list[list[int]]:
    """The canvas after each token or tokens of Fast-dLLM v2's `generate`, greedy, without its cache inside a block."""
    x, history = list(prompt), []

    def commit_next() -> None:
        tokens, _ = _propose(logits_of([*x, mask])[-1:])  # the last row of what is there
        x.append(int(tokens[0]))
        history.append(list(x))

    if len(x) % block == 0:
        commit_next()
    for _ in range(blocks):
        if stop in x[len(prompt) :]:
            break
        begin = len(x)
        x += [mask] * (-begin % block)
        masked = set(range(begin, len(x)))
        start = len(x) - block

        for inside in (range(start + at, start + at + small) for at in range(0, block, small)):
            while not _has_ended(x[begin:], masked, begin, stop) and any(place in masked for place in inside):
                tokens, confidence = _propose(logits_of(x)[inside.start : inside.stop])
                for index, place in enumerate(inside):
                    if place not in masked:
                        confidence[index] = -np.inf
                best = _best(confidence, 1)[0]
                for index, place in enumerate(inside):
                    if place in masked and (index == best or confidence[index] > np.float32(threshold)):
                        x[place] = int(tokens[index])
                        masked.remove(place)
                history.append(list(x))
        if masked or stop in x[begin:]:
            break
        commit_next()
    return history


def _has_ended(tokens: list[int], masked: set[int], begin: int, stop: int) -> bool:
    """Whether `tokens`, which begin at `begin`, have a `stop` and no mask before it."""
    return stop in tokens and not any(place < begin + tokens.index(stop) for place in masked)


def bd3lm(
    logits_of: LogitsOf, prompt: list[int], new: int, block: int, mask: int, end: int, steps: int
) -> list[list[int]]:
    """The canvas after each step of dllm's BD3-LM sampler, "low_confidence", with `steps` for each block.

    `logits_of` counts blocks so that the answer begins one.
    """
    x, history, generated = list(prompt), [], 0
    while generated < new and end not in x[len(prompt) + max(0, generated - block) :]:
        length = min(block, new - generated)
        begin = len(x)
        x += [mask] * length
        masked = set(range(begin, len(x)))
        left, counts = length, []
        for t in range(steps, 0, -1):  # rounded shares of the linear schedule, in fp32 as there
            s = np.float32((t - 1) / steps)
            share = 1 - float((1 - (1 - s)) / (1 - (1 - np.float32(t / steps))))
            counts.append(min(left, round(left * share)))
            left -= counts[-1]
        for count in filter(None, counts):
            tokens, confidence = _propose(logits_of(x)[begin:])
            candidates = np.array([p if begin + i in masked else -np.inf for i, p in enumerate(confidence)])
            for index in _best(candidates, min(count, len(masked))):
                x[begin + index] = int(tokens[index])
                masked.remove(begin + index)
            history.append(list(x))
        generated += length
    return history
