"""A network that can be given keys and values, and a plain restatement of the loop with blocks and caches."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from dream_edge_runtime.arrays import BoolArray, FloatArray, IntArray
from dream_edge_runtime.format.model_config import ModelConfig
from dream_edge_runtime.generation.schedule import Schedule
from dream_edge_runtime.inference.network import KeyValues, Rows


@dataclass(frozen=True)
class Snapshot:
    """What it remembers of positions: which tokens stood there. Of a batch, they have two dimensions."""

    ids: IntArray
    positions: IntArray
    """-1 for padding."""

    @property
    def count(self) -> int:
        return int(self.ids.shape[-1])

    @property
    def nbytes(self) -> int:
        return self.ids.nbytes + self.positions.nbytes

    def cut(self, start: int, stop: int) -> Snapshot:
        return Snapshot(self.ids[..., start:stop], self.positions[..., start:stop])

    def append(self, *others: KeyValues) -> Snapshot:
        parts = [self, *(each for each in others if isinstance(each, Snapshot))]
        assert len(parts) == 1 + len(others)
        return Snapshot(
            np.concatenate([each.ids for each in parts]), np.concatenate([each.positions for each in parts])
        )

    def stack(self, sequences: Sequence[KeyValues | None]) -> Snapshot:
        longest = max(each.count for each in sequences if each is not None)
        ids = np.zeros((len(sequences), longest), np.int64)
        positions = np.full_like(ids, -1)
        for row, each in enumerate(sequences):
            if each is not None:
                assert isinstance(each, Snapshot)
                ids[row, : each.count], positions[row, : each.count] = each.ids, each.positions
        return Snapshot(ids, positions)

    def split(self, counts: Sequence[int]) -> list[Snapshot]:
        rows = zip(np.atleast_2d(self.ids), np.atleast_2d(self.positions), counts, strict=True)
        return [Snapshot(ids[:count], positions[:count]) for ids, positions, count in rows]


def rows_of_batch(
    ids: IntArray, positions: IntArray, mask: BoolArray, logit_rows: IntArray, past: KeyValues | None
) -> Iterator[tuple[Snapshot, Snapshot, BoolArray, IntArray]]:
    """Of each sequence of a pass: what is active, all keys, which of them each query sees, and its own `logit_rows`.

    Rows must be asked for in the order of the sequences, and nobody may see padding.
    """
    batch, active = ids.shape
    assert positions.shape == ids.shape
    assert (np.diff(logit_rows // active) >= 0).all()
    assert past is None or isinstance(past, Snapshot)
    for row in range(batch):
        own = Snapshot(ids[row], positions[row])
        keys = own
        if past is not None:
            keys = Snapshot(np.atleast_2d(past.ids)[row], np.atleast_2d(past.positions)[row]).append(own)
        assert mask[row].shape in [(queries, len(keys.ids)) for queries in (1, active)]
        assert not mask[row][:, keys.positions < 0].any()
        yield own, keys, mask[row], logit_rows[logit_rows // active == row] % active


class RememberingNetwork:
    """Logits that depend on every token that is seen, active or remembered, and on where it stands."""

    def __init__(self, config: ModelConfig, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.config, self.keeps_keys, self.pass_overhead = config, True, 0
        self._tokens = rng.standard_normal((config.vocab_size, 16))
        self._places = rng.standard_normal((config.max_position_embeddings, 16))
        self._head = rng.standard_normal((16, config.vocab_size)) * 0.75
        self.active: list[list[int]] = []
        """The positions that each pass computed, of each sequence."""
        self.passes = 0

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
        logits = []
        for active, keys, (seen,), asked in rows_of_batch(input_ids, position_ids, attention_mask, logit_rows, past):
            real = Snapshot(keys.ids[seen], keys.positions[seen])
            assert len(set(real.positions.tolist())) == len(real.positions)  # none stands twice
            self.active.append(sorted(set(active.positions.tolist())))
            logits.append(self.logits(active.ids, active.positions, real)[asked])
        self.passes += 1
        rows = Rows.from_logits(np.concatenate(logits), temperature)
        kept = Snapshot(input_ids, position_ids) if len(input_ids) > 1 else Snapshot(input_ids[0], position_ids[0])
        return replace(rows, key_values=kept if keep else None)


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

    Inside a block, tokens that are remembered are those that stood there when everything was computed last. With a
    `threshold` and the cache "auto", a step that finds nothing to reveal among them forgets them and looks again, and a
    look at everything takes what is sure after the block too, but for ends of text.
    """
    ids, masked, history = ids.copy(), masked.copy(), []
    places = np.flatnonzero(masked)
    blocks = [places[start : start + block_length] for start in range(0, len(places), block_length)]
    for index, block in enumerate(blocks):
        share = steps // len(blocks) + (index < steps % len(blocks))
        later = places[places > block[-1]]
        hidden = set() if suffix_window is None else set(later[suffix_window:-1].tolist())
        seen = np.array([place for place in range(len(ids)) if place not in hidden])
        before = [max(place - 1, 0) for place in block]
        published = {"prefix": seen[seen >= before[0]].tolist(), "dual": [*block.tolist(), *before]}
        remembered = None
        for timestep in Schedule(steps=max(share, 1)):
            left = block[masked[block]]
            if not left.size:
                break
            count = timestep.quota(left.size) if threshold is None else left.size
            while count:
                view, asked, wanted = ids.copy(), left, np.maximum(left - 1, 0)
                active = {*wanted.tolist(), *published.get(cache, [])}
                if remembered is not None and cache == "auto":
                    active |= {place for place in seen.tolist() if ids[place] != remembered[place]}
                    if 4 * len(active) > len(seen):
                        remembered = None
                if remembered is None or cache == "none":
                    remembered, fresh = ids.copy(), True
                    if threshold is not None and cache == "auto":
                        asked = seen[masked[seen]]
                        wanted = np.maximum(asked - 1, 0)
                else:
                    outside = np.array([place for place in seen.tolist() if place not in active], np.int64)
                    view[outside], fresh = remembered[outside], cache != "auto"
                logits = network.logits(ids[wanted], wanted, Snapshot(view[seen], seen))
                probs = np.exp(logits - logits.max(axis=1, keepdims=True))
                probs /= probs.sum(axis=1, keepdims=True)
                order = np.argsort(-probs.max(axis=1), kind="stable")
                inside = order[asked[order] <= block[-1]]
                best = inside[:count]
                if threshold is not None and not timestep.last:
                    best = order[probs[order].max(axis=1) >= threshold]
                    token = {int(asked[index]): int(probs[index].argmax()) for index in best}
                    rank = {int(asked[index]): place for place, index in enumerate(best)}
                    twins = [
                        place for place in token if token.get(place + 1) == token[place] != network.config.pad_token_id
                    ]
                    later = {max(place, place + 1, key=rank.__getitem__) for place in twins}
                    best = best[[int(asked[index]) not in later for index in best]] if later else best
                    early = (asked[best] > block[-1]) & (probs[best].argmax(axis=1) == network.config.pad_token_id)
                    best = best[~early]
                    best = inside[:1] if fresh and not best.size else best
                if not best.size:
                    remembered = None
                    continue
                ids[asked[best]] = probs[best].argmax(axis=1)
                masked[asked[best]] = False
                break
            history.append(ids.copy())
    return history
