"""The published models on a machine: whether they fit, how long an answer takes, and which comes first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import log
from typing import Any

from dream_edge_runtime.format.memory import estimate_memory
from dream_edge_runtime.format.recipe import Scheme, Target
from dream_edge_runtime.format.tensors import parameter_count
from dream_edge_runtime.host import default_threads, describe_machine, free_gpu_memory, free_memory
from dream_edge_runtime.inference.devices import cuda_problem
from dream_edge_runtime.inference.memory import CONTEXT, estimate_gpu_memory

from .probe import BLOCK, Network, Speed
from .published import PUBLISHED, PublishedModel

SCHEMES: tuple[Scheme, ...] = ("int8", "int4")
_CACHING = 4  # the default remembers the rest of a canvas of so many blocks or more


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What counts of a machine."""

    processor: str
    threads: int
    """Of a pass; 0 = ONNX Runtime's own count."""
    free_memory: int | None
    """Bytes; None where the system does not say."""
    gpu: bool = False
    free_gpu_memory: int | None = None

    @classmethod
    def here(cls, threads: int | None = None) -> Machine:
        """This one. Raises MissingExtra without ONNX Runtime."""
        gpu = cuda_problem() is None
        return cls(
            processor=describe_machine(),
            threads=threads or default_threads(),
            free_memory=free_memory(),
            gpu=gpu,
            free_gpu_memory=free_gpu_memory() if gpu else None,
        )


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A published model in one scheme, on the device that it fits."""

    model: PublishedModel
    scheme: Scheme
    device: Target
    artifact_bytes: int
    memory_bytes: int
    """While loading or in a pass, whichever takes more; the interpreter and its libraries add 0.1 GB."""
    fits: bool | None
    """None where it is not known how much is free."""
    speed: Speed | None = None
    """None where it does not fit."""
    seconds: float | None = None
    """Of an answer."""

    @property
    def download_bytes(self) -> int:
        """Of the checkpoint, which is in bfloat16."""
        return 2 * parameter_count(self.model.config)

    @property
    def commands(self) -> list[str]:
        """How to get it and run it."""
        out = f"{self.model.repository.split('/')[1]}-{self.scheme}"
        target = " --target cuda" if self.device == "cuda" else ""
        return [
            f"dream-edge pull {self.model.repository}",
            f"dream-edge export {self.model.repository} {out} --scheme {self.scheme}{target}",
            f'dream-edge generate {out} -p "Hello!"',
        ]

    def to_dict(self) -> dict[str, Any]:
        model, speed = self.model, self.speed
        return {
            "repository": model.repository,
            "license": model.license,
            "non_commercial": model.non_commercial,
            "purpose": model.purpose,
            "thinks": model.thinks,
            "parameters": parameter_count(model.config),
            "attention": model.attention,
            "scores": dict(model.scores),
            "scores_source": model.scores_source,
            "scheme": self.scheme,
            "device": self.device,
            "download_bytes": self.download_bytes,
            "artifact_bytes": self.artifact_bytes,
            "memory_bytes": self.memory_bytes,
            "fits": self.fits,
            "tokens_per_pass": model.tokens_per_pass,
            "tokens_per_pass_source": model.tokens_per_pass_source,
            "seconds_per_full_pass": speed and speed.full,
            "seconds_per_cached_pass": speed and speed.cached,
            "measured": bool(speed and speed.measured),
            "seconds_per_answer": self.seconds,
            "commands": self.commands,
        }


def list_candidates(machine: Machine, canvas: int) -> list[Candidate]:
    """Every published model in every scheme, on the GPU if it fits there."""
    found = []
    for model in PUBLISHED:
        for scheme in SCHEMES:
            devices: tuple[Target, ...] = ("cuda", "cpu") if machine.gpu else ("cpu",)
            tried = [_place(machine, model, scheme, device, canvas) for device in devices]
            found.append(next((each for each in tried if each.fits is not False), tried[-1]))
    return found


def _place(machine: Machine, model: PublishedModel, scheme: Scheme, device: Target, canvas: int) -> Candidate:
    recipe = Network(config=model.config, scheme=scheme, device=device).recipe
    if device == "cuda":  # the driver has already taken the context from what it calls free
        needed, free = estimate_gpu_memory(model.config, recipe, canvas=canvas), machine.free_gpu_memory
        memory = needed.total - CONTEXT
    else:
        # the default asks for a block's logits, but on a canvas that is too short for a cache
        rows = canvas if canvas < _CACHING * BLOCK and model.config.causal_block is None else BLOCK
        memory = estimate_memory(model.config, recipe.targets[device], canvas=canvas, rows=rows).total
        free = machine.free_memory
    return Candidate(
        model=model,
        scheme=scheme,
        device=device,
        artifact_bytes=recipe.stored_bytes(model.config),
        memory_bytes=memory,
        fits=None if free is None else memory <= free,
    )


def choose_probes(candidates: Iterable[Candidate]) -> list[Network]:
    """Of the networks that fit, for each scheme and device: the smallest, the largest and the one in the middle."""
    kinds: dict[tuple[Target, Scheme], dict[int, Network]] = {}
    for each in candidates:
        if each.fits is not False:
            network = Network(config=each.model.config, scheme=each.scheme, device=each.device)
            kinds.setdefault((each.device, each.scheme), {}).setdefault(parameter_count(network.config), network)
    chosen = []
    for sizes in kinds.values():
        ascending = [sizes[size] for size in sorted(sizes)]
        telling = dict.fromkeys((0, len(ascending) - 1, len(ascending) // 2))
        chosen.append([ascending[index] for index in telling])
    return [networks[turn] for turn in range(3) for networks in chosen if turn < len(networks)]


def reckon(candidate: Candidate, speeds: Sequence[Speed], prompt_tokens: int, new_tokens: int) -> Candidate:
    """`candidate` with its speed, by the nearest network of its scheme that was timed, and the time of an answer."""
    if candidate.fits is False:
        return candidate
    network = Network(config=candidate.model.config, scheme=candidate.scheme, device=candidate.device)
    alike = [each for each in speeds if (each.network.scheme, each.network.device) == (network.scheme, network.device)]

    def distance(speed: Speed) -> float:
        return abs(log(network.layer_weights / speed.network.layer_weights))

    speed = min(alike, key=distance).scale(network)
    return replace(candidate, speed=speed, seconds=answer_seconds(candidate.model, speed, prompt_tokens, new_tokens))


def answer_seconds(model: PublishedModel, speed: Speed, prompt_tokens: int, new_tokens: int) -> float:
    """How long `new_tokens` after a prompt take.

    A block-causal model computes each token of the prompt once, each block once more when it is finished, and a block
    in each pass. One of full attention computes every second pass in full, as the tiny Dream was found to, and all of
    them where the canvas is too short for a cache.
    """
    passes, canvas = new_tokens / model.tokens_per_pass, prompt_tokens + new_tokens
    if model.config.causal_block is not None:
        return passes * speed.cached + speed.seconds(BLOCK + canvas) - speed.cached
    in_full = passes / 2 if canvas >= _CACHING * BLOCK else passes
    return in_full * speed.seconds(canvas) + (passes - in_full) * speed.cached


def rank(candidates: Iterable[Candidate], patience: float) -> list[Candidate]:
    """The best first: what answers in time, the largest of it; then what fits, the fastest; then the smallest."""

    def key(each: Candidate) -> tuple[float, ...]:
        model = each.model
        aside, size = model.non_commercial or model.thinks, parameter_count(model.config)
        if each.seconds is None:
            return (2, each.memory_bytes)
        if each.seconds > patience:
            return (1, aside, each.seconds)
        return (0, aside, -size, -model.scores.get("HumanEval", 0), each.seconds)

    return sorted(candidates, key=key)
