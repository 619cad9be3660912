"""The full-precision network over many sequences, in stages that can be resumed.

The work is done in stages, each of which leaves a file, so that what was interrupted resumes after the last one:

    stage 0         the embedding
    stage 1 … n     layer 0 … n - 1
    stage n + 1     the asked rows, normalised: what lm_head takes

A sequence is computed by itself, in fp32, with the operations of `load_reference`: hidden states have the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from dream_edge_runtime.arrays import BoolArray, FloatArray, IntArray
from dream_edge_runtime.files.writing import replace_file

from ..checkpoint.checkpoint import Checkpoint
from .bf16 import Rounding, round_activations
from .layerwise import Batch, HiddenStates, as_bytes, compute_logits, embed, lay_batches, load_layer, normalize

LARGEST_LOGITS = 1 << 28  # bytes of logits at a time; lm_head is read once for each


@dataclass(frozen=True)
class StagedReference:
    """Rows of logits of some sequences, and the directory in which the work lies.

    Attributes:
        sequences: ids [length] of each.
        rows: of each sequence, whose hidden states go through lm_head [asked].
        directory: for files called stage-N; for this work alone.
        rounding: what every activation goes through; None = they stay as they are, in fp32.
        masks: of each sequence, which keys each query attends to [length or 1, length]; None = as in whole sequences.
    """

    checkpoint: Checkpoint
    sequences: Sequence[IntArray]
    rows: Sequence[IntArray]
    directory: Path
    rounding: Rounding | None = None
    masks: Sequence[BoolArray] | None = None

    @property
    def stages(self) -> int:
        return self.checkpoint.config.num_hidden_layers + 2

    @property
    def row_count(self) -> int:
        return sum(map(len, self.rows))

    @property
    def file_bytes(self) -> int:
        """The size of the hidden states; two such files exist while a stage is at work."""
        return 4 * self.checkpoint.config.hidden_size * sum(map(len, self.sequences))

    @cached_property
    def work(self) -> float:
        """All of it; one layer over all sequences counts as 1."""
        return self.checkpoint.config.num_hidden_layers + self._head_work * self.row_count

    def work_before(self, stage: int, rows: int = 0) -> float:
        """How much of `work` is done before `stage`, and once the logits of `rows` are computed."""
        return min(max(stage - 1, 0), self.checkpoint.config.num_hidden_layers) + self._head_work * rows

    @property
    def _head_work(self) -> float:
        """A row of logits, of one layer over all sequences: multiplications against multiplications."""
        config = self.checkpoint.config
        layer = config.hidden_size * (2 * config.query_size + 2 * config.kv_size + 3 * config.intermediate_size)
        return config.vocab_size * config.hidden_size / layer / sum(map(len, self.sequences))

    def run(self, stage: int, advance: Callable[[float], object] = lambda _done: None) -> None:
        """Write the file of `stage` from that of the stage before, which may be given up then (see `forget`).

        `advance` is called with how much of `work` is done.

        Raises:
            CheckpointError: as `Checkpoint.tensor`.
            NotWritable: the disk is full or fails.
        """
        for left in self.directory.glob(".stage-*.partial"):  # by a run that was killed
            left.unlink()
        done = self.work_before(stage)
        share = (self.work_before(stage + 1) - done) / len(self.sequences)
        with replace_file(self._file(stage)) as file, torch.inference_mode():
            for count, state in enumerate(self._states(stage), 1):
                file.write(as_bytes(state))
                advance(done + share * count)

    def is_there(self, stage: int) -> bool:
        """Whether `stage` has left its file."""
        return self._file(stage).is_file()

    def forget(self, stage: int) -> None:
        """Remove all files of stages before `stage`."""
        for earlier in range(stage):
            self._file(earlier).unlink(missing_ok=True)

    def logits(self, start: int = 0) -> Iterator[FloatArray]:
        """Logits fp32 [some, vocab] of the asked rows from `start` on, some at a time; the last stage must be there."""
        normed = self._stored(self.stages - 1)
        step = max(1, LARGEST_LOGITS // (4 * self.checkpoint.config.vocab_size))
        step -= step % 32 if step > 32 else 0
        with torch.inference_mode():
            for first in range(start, self.row_count, step):
                hidden = normed.rows(first, min(step, self.row_count - first))
                found: FloatArray = self._round(compute_logits(self.checkpoint, hidden)).numpy()
                yield found

    @cached_property
    def _batches(self) -> list[Batch]:
        """Each sequence by itself, in their order."""
        groups = ([index] for index in range(len(self.sequences)))
        batches = lay_batches(groups, self.sequences, self.checkpoint.config)
        if self.masks is None:
            return batches
        masks = map(torch.from_numpy, self.masks)
        return [replace(batch, mask=mask[None, None]) for batch, mask in zip(batches, masks, strict=True)]

    def _states(self, stage: int) -> Iterator[Tensor]:
        """What the file of `stage` holds, sequence by sequence."""
        checkpoint = self.checkpoint
        if stage == 0:
            return (embed(checkpoint, batch.ids) for batch in self._batches)
        before = self._stored(stage - 1)
        if stage < self.stages - 1:
            layer = load_layer(checkpoint, stage - 1)
            if self.rounding:
                round_activations(layer, self.rounding)
            return (self._round(batch.apply(layer, before.read(batch))) for batch in self._batches)
        return (
            self._round(normalize(checkpoint, before.read(batch)[0])[torch.from_numpy(rows)])
            for batch, rows in zip(self._batches, self.rows, strict=True)
        )

    def _round(self, state: Tensor) -> Tensor:
        return self.rounding(state) if self.rounding else state

    def _stored(self, stage: int) -> HiddenStates:
        return HiddenStates(self._file(stage), self.checkpoint.config.hidden_size)

    def _file(self, stage: int) -> Path:
        return self.directory / f"stage-{stage}"
