"""A network that can be given keys and values, and a plain restatement of the loop with blocks and caches."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np

from dream_edge_runtime.arrays import BoolArray, FloatArray, IntArray
from dream_edge_runtime.format.model_config import ModelConfig
from dream_edge_runtime.generation.schedule import Schedule
from dream_edge_runtime.inference.network import KeyValues, Rows


@dataclass(frozen=True)
class Snapshot:
    """What it remembers of positions: which tokens stood there."""

    ids: IntArray
    positions: IntArray

    @property
    def count(self) -> int:
        return len(self.ids)

    @property
    def nbytes(self) -> int:
        return self.ids.nbytes + self.positions.nbytes

    def cut(self, start: int, stop: int) -> Snapshot:
        return Snapshot(self.ids[start:stop], self.positions[start:stop])

    def append(self, *others: KeyValues) -> Snapshot:
        parts = [self, *(each for each in others if isinstance(each, Snapshot))]
        assert len(parts) == 1 + len(others)
        return Snapshot(
            np.concatenate([each.ids for each in parts]), np.concatenate([each.positions for each in parts])
        )


class RememberingNetwork:
    """Logits that depend on every token that is seen, active or remembered, and on where it stands."""

    def __init__(self, config: ModelConfig, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.config, self.keeps_keys = config, True
        self._tokens = rng.standard_normal((config.vocab_size, 16))
        self._places = rng.standard_normal((config.max_position_embeddings, 16))
        self._head = rng.standard_normal((16, config.vocab_size)) * 0.75
        self.active: list[list[int]] = []
        """The positions that each pass computed."""

    def logits(self, ids: IntArray, positions: IntArray, seen: Snapshot) -> FloatArray:
        """fp32 [active, vocab]; the mask is never proposed."""
        own = self._tokens[ids] * np.cos(self._places[positions])
        context = (self._tokens[seen.ids] * np.cos(self._places[seen.positions])).sum(axis=0)
        hidden = np.sin(3 * own + context + self._places[positions])
        logits: FloatArray = (hidden @ self._head).astype(np.float32)
        logits[:, self.config.mask_token_id] = -100
        return logits

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
        assert len(input_ids) == 1
        active = Snapshot(input_ids[0], position_ids[0])
        seen = active
        if isinstance(past, Snapshot):
            seen = Snapshot(np.append(past.ids, active.ids), np.append(past.positions, active.positions))
        assert attention_mask.shape == (1, 1, len(seen.ids))
        (real,) = attention_mask[0]
        real = Snapshot(seen.ids[real], seen.positions[real])
        assert len(set(real.positions.tolist())) == len(real.positions)  # none stands twice
        self.active.append(position_ids[0].tolist())
        rows = Rows.from_logits(self.logits(active.ids, active.positions, real)[logit_rows], temperature)
        return Rows(
            rows.top_logits,
            rows.top_ids,
            rows.top_probs,
            rows.log_normalizer,
            rows.neg_entropy,
            rows.fetch_logits,
            active if keep else None,
        )


def denoise_plainly(
    network: RememberingNetwork,
    ids: IntArray,
    masked: BoolArray,
    steps: int,
    *,
    block_length: int,
    cache: str,
    suffix_window: int | None = None,
    threshold: float | None = None,
) -> list[IntArray]:
    """The canvas after each step of `maskgit_plus`: one sequence, everything spelt out.

    Inside a block, tokens that are remembered are those that stood there when the block began. With a `threshold`, a
    step that finds nothing to reveal among remembered tokens forgets them and looks again.
    """
    ids, masked, history = ids.copy(), masked.copy(), []
    places = np.flatnonzero(masked)
    blocks = [places[start : start + block_length] for start in range(0, len(places), block_length)]
    for index, block in enumerate(blocks):
        share = steps // len(blocks) + (index < steps % len(blocks))
        later = places[places > block[-1]]
        hidden = set() if suffix_window is None else set(later[suffix_window:].tolist())
        seen = np.array([place for place in range(len(ids)) if place not in hidden])
        before = [max(place - 1, 0) for place in block]
        if cache == "none":
            active = seen
        elif cache == "prefix":
            active = seen[seen >= before[0]]
        else:
            active = np.array(sorted({*block.tolist(), *before}))
        remembered = None
        for timestep in Schedule(steps=max(share, 1)):
            left = block[masked[block]]
            if not left.size:
                break
            count = timestep.quota(left.size) if threshold is None else left.size
            while count:
                view, fresh = ids.copy(), remembered is None
                if remembered is None:
                    remembered = ids.copy()
                else:
                    outside = np.setdiff1d(seen, active)
                    view[outside] = remembered[outside]
                wanted = np.maximum(left - 1, 0)
                logits = network.logits(ids[wanted], wanted, Snapshot(view[seen], seen))
                probs = np.exp(logits - logits.max(axis=1, keepdims=True))
                probs /= probs.sum(axis=1, keepdims=True)
                best = np.argsort(-probs.max(axis=1), kind="stable")[:count]
                if threshold is not None and not timestep.last:
                    sure = best[probs[best].max(axis=1) >= threshold]
                    best = best[:1] if fresh and not sure.size else sure
                    token = {int(left[index]): int(probs[index].argmax()) for index in best}
                    rank = {int(left[index]): place for place, index in enumerate(best)}
                    twins = [
                        place for place in token if token.get(place + 1) == token[place] != network.config.pad_token_id
                    ]
                    later = {max(place, place + 1, key=rank.__getitem__) for place in twins}
                    best = best[[int(left[index]) not in later for index in best]] if later else best
                if not best.size:
                    remembered = None
                    continue
                ids[left[best]] = probs[best].argmax(axis=1)
                masked[left[best]] = False
                break
            history.append(ids.copy())
    return history
