"""What else could stand in a place: the likeliest tokens there, everything around it seen."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from dream_edge_runtime.arrays import FloatArray, IntArray
from dream_edge_runtime.generation.config import GenerationConfig
from dream_edge_runtime.generation.denoising import Denoising
from dream_edge_runtime.model import DreamModel
from dream_edge_runtime.text.chat import chat_ids

from .requests import AlternativesRequest


class Alternatives:
    """One pass over a text with one mask. Once `text` is denoised, `found` has the tokens, the likeliest first."""

    def __init__(self, model: DreamModel, request: AlternativesRequest) -> None:
        self.found: list[dict[str, Any]] = []
        self.cancel = threading.Event()
        self._tokenizer, self._count = model.tokenizer, request.count
        self.text = self._begin(model, request)

    def _begin(self, model: DreamModel, request: AlternativesRequest) -> Denoising:
        given = chat_ids(model.tokenizer, [each.turn() for each in request.messages]) if request.messages else []
        before = [*given, *model.tokenizer.encode(request.before)]
        how: dict[str, Any] = {"cancel": self.cancel, "logits_hook": self._look}
        if not before:
            return model.stream_infill("", request.after, 1, GenerationConfig(), max_hole_tokens=0, **how)
        room = 1 + len(model.tokenizer.encode(request.after))
        return model.stream(before, GenerationConfig(max_new_tokens=room), end_with=request.after, **how)

    def _look(self, _step: int, _ids: IntArray, _positions: IntArray, logits: FloatArray) -> FloatArray:
        shifted = logits[0].astype(np.float64) - logits[0].max()
        probabilities = np.exp(shifted) / np.exp(shifted).sum()
        best = np.argsort(-probabilities, kind="stable")[: self._count]
        self.found = [
            {
                "text": self._tokenizer.decode(best[rank : rank + 1]),
                "id": int(id_),
                "probability": float(probabilities[id_]),
            }
            for rank, id_ in enumerate(best)
        ]
        return logits
