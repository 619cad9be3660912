"""What `dream-edge bench` measures, as a function."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dream_edge_runtime.errors import CanvasTooLong, InvalidOption
from dream_edge_runtime.format.tensors import LM_HEAD
from dream_edge_runtime.generation.config import DEFAULT_BLOCK, CacheKind, GenerationConfig
from dream_edge_runtime.host import default_threads, describe_machine, peak_memory, resident_memory
from dream_edge_runtime.inference.devices import choose_device
from dream_edge_runtime.progress import Meter, OnProgress, silent

from ..models import find_or_make_int8, load, open_artifact
from .timing import gemm_peak, operations, time_pass

if TYPE_CHECKING:
    from dream_edge_runtime.model import DreamModel

CANVASES = (64, 256, 512)
PROMPT_TOKENS = 32
CACHES: tuple[CacheKind, ...] = ("none", "dual")

PeakKind = Literal["int8", "fp32"]


@dataclass(frozen=True)
class Load:
    """Memory is None where the platform does not say."""

    seconds: float
    resident_bytes: int | None
    """Held once loaded, mapped files included."""
    peak_bytes: int | None
    """The most held until then."""


@dataclass(frozen=True)
class Pass:
    """One forward pass; all its active tokens are projected onto the vocabulary."""

    canvas: int
    active: int
    """Tokens computed; of the others on the canvas, keys and values are remembered."""
    seconds: float
    share_of_peak: float | None
    """None on a GPU, whose peak is not measured."""


@dataclass(frozen=True)
class Generated:
    """A text of which (almost) every pass reveals one token: the slowest way that makes sense."""

    cache: CacheKind
    prompt_tokens: int
    new_tokens: int
    passes: int
    seconds: float

    @property
    def tokens_per_second(self) -> float:
        return self.new_tokens / self.seconds


@dataclass(frozen=True)
class Bench:
    artifact: Path
    scheme: str
    device: str
    threads: int
    """0 = ONNX Runtime's own count; see `host.default_threads`."""
    machine: str
    load: Load
    passes: tuple[Pass, ...]
    generations: tuple[Generated, ...]
    peaks: dict[PeakKind, float]
    """Operations a second of one large matrix product on the CPU, by the kind of numbers; none for a GPU."""
    compared_with: PeakKind | None
    """The peak that shares are of: integers where the matrices are multiplied in them."""
    peak_bytes: int | None
    """The most memory held through all of it."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: seconds, bytes, operations a second, shares from 0 to 1."""
        values = asdict(self) | {"artifact": str(self.artifact)}
        for written, generation in zip(values["generations"], self.generations, strict=True):
            written["tokens_per_second"] = generation.tokens_per_second
        return values


def bench(
    name: str | Path,
    *,
    canvases: Sequence[int] | None = None,
    new_tokens: int = 32,
    repeats: int = 3,
    device: str = "auto",
    threads: int | None = None,
    as_int8: bool = False,
    memory_check: bool = True,
    progress: OnProgress = silent,
) -> Bench:
    """Load an artifact in this process and time it.

    Args:
        name, device, threads, as_int8, memory_check: as for `dream_edge.load`.
        canvases: tokens of the full passes; None = those of 64, 256 and 512 that the context has room for.
        new_tokens: generated after a prompt of 32 random tokens, once for each kind of cache (block-causal: one).
        repeats: passes of which the median counts.
        progress: told of a download and an int8 copy in bytes, then of timing in passes.

    Raises: as `dream_edge.load`; InvalidOption, CanvasTooLong for what does not fit the model.
    """
    artifact = open_artifact(name, progress=progress)
    target = choose_device(device, artifact.manifest.graphs, artifact.path)
    context = artifact.manifest.config.context
    sizes = _sizes(canvases, context)
    if new_tokens < 1 or repeats < 1:
        wrong = ("new_tokens", new_tokens) if new_tokens < 1 else ("repeats", repeats)
        raise InvalidOption(*wrong, "must be at least 1")
    if PROMPT_TOKENS + new_tokens > context:
        raise CanvasTooLong(PROMPT_TOKENS + new_tokens, context)
    causal_block = artifact.manifest.config.causal_block
    block = causal_block or DEFAULT_BLOCK
    cached = [size for size in sizes if size > block]
    caches: Sequence[CacheKind] = CACHES if causal_block is None else ("none",)
    total = (len(sizes) + len(cached)) * (repeats + 1) + len(cached) + len(caches) * new_tokens
    if as_int8:
        artifact = find_or_make_int8(artifact, target, threads=threads, memory_check=memory_check, progress=progress)

    count = Meter(progress, "timing", total, "passes").advance
    start = time.perf_counter()
    model = load(artifact.path, device=target, threads=threads, memory_check=memory_check, prefix_cache_bytes=0)
    loading = Load(time.perf_counter() - start, resident_memory(), peak_memory())

    formats = artifact.manifest.recipe.targets[target]
    kind: PeakKind = "int8" if formats.of(LM_HEAD).kind == "row" else "fp32"
    peaks: dict[PeakKind, float] = {}
    if target == "cpu":
        peaks = {"int8": gemm_peak("int8", threads=threads), "fp32": gemm_peak("fp32", threads=threads)}

    def timed(canvas: int, block: int | None) -> Pass:
        seconds, active = time_pass(model.network, canvas, repeats, block=block, done=count), block or canvas
        speed = operations(model.config, active, canvas) / seconds
        return Pass(canvas, active, seconds, speed / peaks[kind] if kind in peaks else None)

    passes = [timed(size, None) for size in sizes] + [timed(size, block) for size in cached]
    generations = tuple(_generate(model, cache, new_tokens, count) for cache in caches)
    return Bench(
        artifact=artifact.path,
        scheme=artifact.manifest.recipe.scheme,
        device=target,
        threads=threads or default_threads(),
        machine=describe_machine(),
        load=loading,
        passes=tuple(passes),
        generations=generations,
        peaks=peaks,
        compared_with=kind if peaks else None,
        peak_bytes=peak_memory(),
    )


def _sizes(canvases: Sequence[int] | None, context: int) -> list[int]:
    if canvases is None:
        return [size for size in CANVASES if size <= context] or [context]
    for size in canvases:
        if not 1 <= size <= context:
            raise InvalidOption("canvas", size, f"must lie between 1 and the model's context of {context} tokens")
    return list(dict.fromkeys(canvases))


def _generate(model: DreamModel, cache: CacheKind, new_tokens: int, done: Callable[[], None]) -> Generated:
    prompt = np.random.default_rng(0).integers(0, model.config.mask_token_id, PROMPT_TOKENS).tolist()
    config = GenerationConfig(max_new_tokens=new_tokens, steps=new_tokens, algorithm="entropy", cache=cache, seed=0)
    denoising = model.stream(prompt, config)
    for _ in denoising:
        done()
    result = denoising.result()
    return Generated(cache, PROMPT_TOKENS, new_tokens, result.passes, result.seconds)
