"""A model that one request of a batch kills, with the process it is in. Importable by the workers of a Ray cluster."""

from __future__ import annotations

import os
import signal

from dream_edge.batches import Source, ray_dataset
from dream_edge.batches.answers import Answer, answer
from dream_edge.batches.requests import Line
from dream_edge_runtime.model import DreamModel
from dream_edge_runtime.progress import OnProgress, silent


class DeadlySource(Source):
    def load(self, threads: int | None, progress: OnProgress = silent) -> DreamModel:
        ray_dataset.answer = answer_or_die  # type: ignore[attr-defined]
        return super().load(threads, progress)


def answer_or_die(model: DreamModel, served: str, line: Line) -> Answer:
    """Dies of a request called "deadly" as long as it is to be computed."""
    if line.custom_id == "deadly" and line.refused is None:
        os.kill(os.getpid(), signal.SIGKILL)
    return answer(model, served, line)
