"""What else could stand in a place: the likeliest tokens there, given all the text around it."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from dream_edge_runtime.arrays import FloatArray, IntArray
from dream_edge_runtime.generation.config import GenerationConfig
from dream_edge_runtime.generation.denoising import Denoising
from dream_edge_runtime.model import DreamModel
from dream_edge_runtime.text.chat import chat_ids

from .conversation import list_turns
from .requests import AlternativesRequest


class Alternatives:
    """One pass over a text with one mask. Once `text` is denoised, `found` has the tokens, the likeliest first."""

    def __init__(self, model: DreamModel, request: AlternativesRequest) -> None:
        self.found: list[dict[str, Any]] = []
        self.cancel: threading.Event = threading.Event()
        self._tokenizer, self._count = model.tokenizer, request.count
        self.text: Denoising = self._begin(model, request)

    def _begin(self, model: DreamModel, request: AlternativesRequest) -> Denoising:
        turns = list_turns(request.messages)
        chat = chat_ids(model.tokenizer, turns) if turns else []
        before = [*chat, *model.tokenizer.encode(request.before)]
        run: dict[str, Any] = {"cancel": self.cancel, "logits_hook": self._note}
        if not before:
            return model.stream_infill("", request.after, 1, GenerationConfig(), max_hole_tokens=0, **run)
        length = 1 + model.count_tokens(request.after)
        return model.stream(before, GenerationConfig(max_new_tokens=length), end_with=request.after, **run)

    def _note(self, _step: int, _ids: IntArray, _positions: IntArray, logits: FloatArray) -> FloatArray:
        weights = np.exp(logits[0].astype(np.float64) - logits[0].max())
        probabilities = weights / weights.sum()
        best = np.argsort(-weights, kind="stable")[: self._count]
        self.found = [
            {"text": self._tokenizer.decode(best[rank : rank + 1]), "id": int(id_), "probability": probabilities[id_]}
            for rank, id_ in enumerate(best)
        ]
        return logits
