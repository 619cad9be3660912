"""What a request changes in the logits of a text, and what it wants to know of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from dream_edge_runtime.arrays import FloatArray, IntArray
from dream_edge_runtime.errors import InvalidTokenId
from dream_edge_runtime.generation.logit_bias import NEVER
from dream_edge_runtime.generation.results import CUT_CHARACTER, Generation
from dream_edge_runtime.model import DreamModel

from .requests import Sampling

_FORBIDDEN = -100.0


class LogitWatch:
    """The logits of one text: biases and penalties are added to them; the probabilities of tokens are noted.

    What is noted is the network's own distribution, before temperature, filters, biases and constraints, of the last
    pass that asked about a token: the one at which it was settled, unless a constraint settled it. A token that no pass
    asked about was certain.
    """

    def __init__(self, model: DreamModel, request: Sampling, top: int | None) -> None:
        self._tokenizer, self._mask, self._top = model.tokenizer, model.config.mask_token_id, top
        self._special = sorted(model.tokenizer.special_ids)
        self._biases = {int(token): amount for token, amount in request.logit_bias.items()}
        for token in self._biases:
            if token >= model.config.vocab_size:
                raise InvalidTokenId(token, model.config.vocab_size)
        self._frequency, self._presence = request.frequency_penalty, request.presence_penalty
        self._changes = bool(self._biases or self._frequency or self._presence)
        self._around: tuple[int, int] | None = None
        self._asked: tuple[IntArray, FloatArray] = np.empty(0, np.int64), np.empty((0, 0), np.float32)
        self._noted: dict[int, tuple[float, list[tuple[int, float]]]] = {}

    def hooks(self) -> dict[str, Any]:
        """Keywords of `DreamModel.generate`; none where nothing is changed or to be known."""
        return {} if self._top is None and not self._changes else {"logits_hook": self._hook}

    def _hook(self, _step: int, ids: IntArray, positions: IntArray, logits: FloatArray) -> FloatArray:
        if self._top is not None:
            self._note(ids, self._top)
            self._asked = positions, logits.copy()
        return self._change(ids, logits.copy()) if self._changes else logits

    def _change(self, ids: IntArray, logits: FloatArray) -> FloatArray:
        if self._around is None:  # tokens of what is given before the text and after it
            masked = ids == self._mask
            self._around = int(masked.argmax()), int(masked[::-1].argmax())
        text = ids[self._around[0] : len(ids) - self._around[1]]
        times = np.bincount(text[text != self._mask], minlength=logits.shape[1]).astype(np.float32)
        times[self._special] = 0  # the end of the text is not repeated, it lasts
        logits -= np.float32(self._frequency) * times + np.float32(self._presence) * (times > 0)
        for token, amount in self._biases.items():
            logits[:, token] += np.float32(NEVER if amount == _FORBIDDEN else amount)
        return logits

    def _note(self, ids: IntArray, top: int) -> None:
        """Note what the last pass said of tokens that `ids` [length] has settled since."""
        for position, logits in zip(*self._asked, strict=True):
            if ids[position] != self._mask:
                self._noted[int(position)] = _look(logits, int(ids[position]), top)

    def tell(self, generation: Generation) -> list[dict[str, Any]] | None:
        """OpenAI's log-probabilities of each token that the text keeps; None where nobody asked for them.

        `generation` has nothing given but what stands before the text.
        """
        if self._top is None:
            return None
        start, tokens = generation.prompt_tokens, generation.token_ids
        self._note(np.array([*[self._mask] * start, *tokens], np.int64), self._top)
        told = []
        for index, token in enumerate(tokens[: generation.new_tokens]):
            own, best = self._noted.get(start + index, (0.0, [(token, 0.0)][: self._top]))
            told.append({**self._word(token, own), "top_logprobs": [self._word(*each) for each in best]})
        return told

    def _word(self, token: int, logprob: float) -> dict[str, Any]:
        text = self._tokenizer.token_text(token)
        is_cut = CUT_CHARACTER in text  # some bytes of a character
        return {"token": text, "logprob": logprob, "bytes": None if is_cut else [*text.encode()]}


def _look(logits: FloatArray, token: int, top: int) -> tuple[float, list[tuple[int, float]]]:
    """The log-probability of `token` by `logits` [vocab], and the `top` best ids with theirs."""
    best = np.argpartition(-logits, top)[:top]
    best = best[np.lexsort((best, -logits[best]))]
    shifted = logits.astype(np.float64) - logits.max()
    shifted -= np.log(np.exp(shifted).sum())
    return float(shifted[token]), [(int(each), float(shifted[each])) for each in best]
