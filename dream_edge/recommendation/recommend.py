"""What `dream-edge recommend` finds out, as a function: which published model and scheme this machine runs well."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

from dream_edge_runtime.errors import InvalidOption
from dream_edge_runtime.progress import OnProgress, silent

from .candidates import Candidate, Machine, choose_probes, list_candidates, rank, reckon
from .probe import BLOCK, CANVAS, probe

NEW_TOKENS = PROMPT_TOKENS = 128
PATIENCE = 60.0
LARGEST_TEXT = 32768
"""Tokens of all these models' contexts."""


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """Every published model in every scheme, the best for this machine first."""

    machine: Machine
    prompt_tokens: int
    new_tokens: int
    patience: float
    probe_seconds: float
    candidates: tuple[Candidate, ...]

    @property
    def best(self) -> Candidate | None:
        """What to take; None where nothing fits."""
        return self.candidates[0] if self.candidates[0].fits is not False else None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: bytes and seconds. A tokens_per_pass_source of null says that it is assumed."""
        return {
            "machine": asdict(self.machine),
            "prompt_tokens": self.prompt_tokens,
            "new_tokens": self.new_tokens,
            "patience_seconds": self.patience,
            "probe": {"seconds": self.probe_seconds, "canvas": CANVAS, "block": BLOCK},
            "recommended": self.best and self.best.to_dict(),
            "candidates": [each.to_dict() for each in self.candidates],
        }


def recommend(
    *,
    prompt_tokens: int = PROMPT_TOKENS,
    new_tokens: int = NEW_TOKENS,
    patience: float = PATIENCE,
    threads: int | None = None,
    progress: OnProgress = silent,
) -> Recommendation:
    """Say which published model and scheme to take on this machine, and how long an answer will take.

    The largest one that answers in time comes first; of equals, the one with the authors' best HumanEval. Models that
    are not for commercial use, or that think before they answer, come after the others. The times are reckoned from a
    probe of about ten seconds, the geometry, and the tokens per pass that the authors publish, or two. Nothing is
    fetched.

    Args:
        prompt_tokens, new_tokens: of the answer whose time is told.
        patience: seconds that it may take.
        threads: for one pass; None = one for each core that this process may use.
        progress: told of the probe in networks.

    Raises:
        InvalidOption: an option is out of range.
        MissingExtra: ONNX Runtime is not installed.
    """
    for name, value in (("prompt_tokens", prompt_tokens), ("new_tokens", new_tokens)):
        if not 1 <= value <= LARGEST_TEXT:
            raise InvalidOption(name, value, f"must lie between 1 and {LARGEST_TEXT}")
    if not 0 < patience < float("inf"):
        raise InvalidOption("patience", patience, "must be a positive number of seconds")
    if threads is not None and threads < 1:
        raise InvalidOption("threads", threads, "must be at least 1")
    machine = Machine.here(threads)
    start = time.perf_counter()
    candidates = list_candidates(machine, prompt_tokens + new_tokens)
    speeds = probe(choose_probes(candidates), threads=threads, progress=progress)
    seconds = time.perf_counter() - start
    return Recommendation(
        machine=machine,
        prompt_tokens=prompt_tokens,
        new_tokens=new_tokens,
        patience=patience,
        probe_seconds=seconds,
        candidates=tuple(rank([reckon(each, speeds, prompt_tokens, new_tokens) for each in candidates], patience)),
    )
