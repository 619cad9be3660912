"""Random weights with the statistics of trained ones, a few rows at a time, straight to bf16.

What quantizers meet in a trained Dream (arXiv 2508.14896): tails heavier than normal; rows and columns of unequal
scale; a few intermediate channels whose activations are tens to hundreds of times the others', on most tokens; norm
gammas far from 1; biases of q and k that dwarf what they are added to. The sizes are rounded guesses, not measurements
of a published checkpoint. Gains keep the residual stream of any width and depth finite, in fp16 too.

A value depends on the seed, the tensor's name and shape and its place alone, never on the order of what is asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from functools import cache
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Bits = NDArray[np.uint16]

GAINS: Mapping[str, float] = {
    "q_proj": 1.2,
    "k_proj": 1.2,
    "v_proj": 1.0,
    "o_proj": 0.9,
    "gate_proj": 1.2,
    "up_proj": 1.2,
    "down_proj": 2.5,
    "lm_head": 1.0,
}
"""RMS of a matrix's output where its input has RMS 1."""
EMBEDDING_SIZE = 0.015
LOGIT_GAIN = 5.0  # the last norm's, so that the best tokens stand out
TAIL = 0.08  # Tukey's h: kurtosis 4.7 before rows and columns are scaled
ROW_SPREAD, COLUMN_SPREAD, GAMMA_SPREAD = 0.2, 0.15, 0.25

_ELEMENTS = 1 << 20  # made at once: what stays in the processor's cache


def tensor_shapes(
    config: Mapping[str, Any], *, stores_lm_head: bool, has_norms: bool = False
) -> dict[str, tuple[int, ...]]:
    """Every tensor by name, in the order of the modules: with norms of the heads of q and k, or else with biases."""
    hidden, intermediate, vocab = (config[f"{name}_size"] for name in ("hidden", "intermediate", "vocab"))
    head = head_dim(config)
    query, kv = head * config["num_attention_heads"], head * config["num_key_value_heads"]
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocab, hidden)}
    for index in range(config["num_hidden_layers"]):
        layer = f"model.layers.{index}"
        for name, width in (("q", query), ("k", kv), ("v", kv)):
            shapes[f"{layer}.self_attn.{name}_proj.weight"] = (width, hidden)
            if not has_norms:
                shapes[f"{layer}.self_attn.{name}_proj.bias"] = (width,)
        shapes[f"{layer}.self_attn.o_proj.weight"] = (hidden, query)
        if has_norms:
            shapes |= {f"{layer}.self_attn.{name}_norm.weight": (head,) for name in ("q", "k")}
        shapes[f"{layer}.mlp.gate_proj.weight"] = (intermediate, hidden)
        shapes[f"{layer}.mlp.up_proj.weight"] = (intermediate, hidden)
        shapes[f"{layer}.mlp.down_proj.weight"] = (hidden, intermediate)
        shapes[f"{layer}.input_layernorm.weight"] = (hidden,)
        shapes[f"{layer}.post_attention_layernorm.weight"] = (hidden,)
    shapes["model.norm.weight"] = (hidden,)
    if stores_lm_head:
        shapes["lm_head.weight"] = (vocab, hidden)
    return shapes


def head_dim(config: Mapping[str, Any]) -> int:
    """The width of a head."""
    return int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])


class Weights:
    """The values of every tensor of one configuration, made when asked for."""

    def __init__(self, config: Mapping[str, Any], seed: int) -> None:
        self.seed = seed
        self.layers: int = config["num_hidden_layers"]
        self.intermediate: int = config["intermediate_size"]
        self.head_dim: int = head_dim(config)
        self.tied: bool = config.get("tie_word_embeddings", True)
        hidden = config["hidden_size"]
        self.loud = self._source("residual").places(hidden, max(1, hidden // 900))
        """Channels of the residual stream that carry more than the others."""

    def chunks(self, name: str, shape: tuple[int, ...]) -> Iterator[Bits]:
        """The bf16 bits of tensor `name`, in order: pieces of whole rows."""
        if self.tied and name == "lm_head.weight":
            name = "model.embed_tokens.weight"
        if len(shape) == 1:
            yield bf16(self._vector(name, shape[0]))
            return
        rows, columns = self._scales(name, *shape)
        step = max(1, _ELEMENTS // shape[1])
        for start in range(0, shape[0], step):
            stop = min(start + step, shape[0])
            values = self._source(f"{name}/{start}").heavy((stop - start) * shape[1]).reshape(-1, shape[1])
            values *= rows[start:stop, None]
            values *= columns
            yield bf16(values)

    def outliers(self, layer: int) -> tuple[NDArray[np.int64], Floats]:
        """Intermediate channels of `layer` with large activations, and how much larger their gate and up rows are.

        The activation grows with the square. One channel of an early and of a late layer is massive.
        """
        source = self._source(f"outliers/{layer}")
        channels = source.places(self.intermediate, max(2, self.intermediate // 3000))
        factors = 2.5 + 2.5 * source.uniform(len(channels))
        if layer in (min(1, self.layers - 1), max(self.layers - 2, 0)):
            factors[0] = 10.0
        return channels, factors

    def _scales(self, name: str, rows: int, columns: int) -> tuple[Floats, Floats]:
        """What each row and each column of matrix `name` is multiplied by."""
        source = self._source(f"{name}/scales")
        row_scales = np.exp(ROW_SPREAD * source.normal(rows))
        column_scales = np.exp(COLUMN_SPREAD * source.normal(columns))
        kind = name.split(".")[-2]
        if kind == "embed_tokens":
            return row_scales * (columns**-0.5 if self.tied else EMBEDDING_SIZE), column_scales
        row_scales *= GAINS[kind] * columns**-0.5
        if kind in ("gate_proj", "up_proj", "down_proj"):
            channels, factors = self.outliers(_layer(name))
            if kind == "down_proj":
                column_scales[channels] /= factors
            else:
                row_scales[channels] *= factors
        if kind in ("o_proj", "down_proj"):
            row_scales[self.loud] *= 6
        return row_scales, column_scales

    def _vector(self, name: str, size: int) -> Floats:
        source = self._source(name)
        if name.endswith("bias"):
            return self._bias(name.split(".")[-2], size, source)
        if name.endswith(("q_norm.weight", "k_norm.weight")):  # at least 1: no bias keeps attention alive
            return (1 + np.abs(source.normal(size))).astype(np.float32)
        level = LOGIT_GAIN if name == "model.norm.weight" else 0.6 + 0.8 * _layer(name) / self.layers
        gammas: Floats = level * np.exp(GAMMA_SPREAD * source.normal(size))
        gammas[source.places(size, max(1, size // 500))] *= 4
        gammas[self.loud] *= 0.25
        return gammas

    def _bias(self, kind: str, size: int, source: _Source) -> Floats:
        """Large where the rotary angle hardly turns: there a bias shifts all scores alike and attention stays alive."""
        if kind == "v_proj":
            return source.normal(size) * np.float32(0.1)
        values = source.normal(size)
        half = self.head_dim // 2
        slow = half - half // 4
        smallest, largest = (2, 10) if kind == "q_proj" else (10, 60)
        for head in range(0, size, self.head_dim):
            pairs = head + slow + source.places(half - slow, max(1, half // 16)) if half > slow else head + half - 1
            for channels in (pairs, pairs + half):
                count = np.size(channels)
                signs = np.where(source.uniform(count) < 0.5, -1, 1)
                values[channels] = signs * (smallest + (largest - smallest) * source.uniform(count))
        return values

    def _source(self, what: str) -> _Source:
        return _Source(f"{self.seed}/{what}")


class _Source:
    """Random numbers that a text decides. Only raw bits are taken from NumPy: those never change between versions."""

    def __init__(self, text: str) -> None:
        digest = hashlib.sha256(text.encode()).digest()
        self._bits = np.random.SFC64([*np.frombuffer(digest, "<u4").tolist()])

    def heavy(self, count: int) -> Floats:
        """Draws of variance 1 with heavy tails."""
        return _heavy_levels()[self._shorts(count)]

    def normal(self, count: int) -> Floats:
        return _normal_levels()[self._shorts(count)]

    def uniform(self, count: int) -> Floats:
        return ((self._shorts(count) + np.float32(0.5)) / 65536).astype(np.float32)

    def places(self, size: int, count: int) -> NDArray[np.int64]:
        """`count` different indices below `size`, in order."""
        return np.sort(np.argsort(self._bits.random_raw(size), kind="stable")[:count])

    def _shorts(self, count: int) -> Bits:
        raw: NDArray[np.uint64] = self._bits.random_raw(-(-count // 4))
        return raw.astype("<u8", copy=False).view("<u2")[:count]


@cache
def _normal_levels() -> Floats:
    """The middles of 65,536 equally probable slices of the normal distribution."""
    normal = NormalDist()
    lower = [normal.inv_cdf((index + 0.5) / 65536) for index in range(32768)]
    return np.array([*lower, *(-value for value in reversed(lower))], np.float32)


@cache
def _heavy_levels() -> Floats:
    """The same of Tukey's h distribution, variance 1."""
    levels = _normal_levels().astype(np.float64)
    levels *= np.exp(TAIL * levels**2 / 2)
    scaled: Floats = (levels / levels.std()).astype(np.float32)
    return scaled


def bf16(values: Floats) -> Bits:
    """The nearest bf16 of each value, as bits; `values` is used up."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    bits += 0x7FFF + ((bits >> 16) & 1)
    return (bits >> 16).astype("<u2")


def _layer(name: str) -> int:
    return int(name.split(".")[2])
