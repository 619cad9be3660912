"""The full-precision network over many sequences, on a machine that can hold one of its layers.

All sequences go through one layer before the next is read. In between, their hidden states lie in a file, so that
memory does not grow with the number of sequences, and whoever was interrupted goes on after the last finished stage:

    stage 0         the embedding
    stage 1 … n     layer 0 … n - 1
    stage n + 1     the asked rows, normalised: what lm_head takes

A sequence is computed by itself, in fp32, with the operations of `load_reference`: hidden states have the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dream_edge_runtime.arrays import FloatArray, IntArray
from dream_edge_runtime.files.writing import replace_file
from dream_edge_runtime.format.tensors import LM_HEAD, weight_of

from ..checkpoint.checkpoint import Checkpoint
from .bf16 import Rounding, round_activations
from .streaming import embed, lm_head_logits, load_layer, norm, run_layer

LARGEST_LOGITS = 1 << 28  # bytes of logits at a time; lm_head is read once for each

Progress = Callable[[float, float], None]
"""Called with how much is done, and with all there is; one layer over all sequences counts as 1."""


@dataclass(frozen=True)
class StreamedReference:
    """What is asked of the network, and the directory in which the work lies.

    Attributes:
        sequences: ids [length] of each.
        rows: of each sequence, whose hidden states go through lm_head [asked].
        directory: for files called stage-N; for this work alone.
        rounding: what every activation goes through; None = they stay as they are, in fp32.
    """

    checkpoint: Checkpoint
    sequences: Sequence[IntArray]
    rows: Sequence[IntArray]
    directory: Path
    rounding: Rounding | None = None

    @property
    def stages(self) -> int:
        return self.checkpoint.config.num_hidden_layers + 2

    @property
    def row_count(self) -> int:
        return sum(map(len, self.rows))

    @property
    def file_bytes(self) -> int:
        """Of the hidden states; two such files exist while a stage is at work."""
        return 4 * self.checkpoint.config.hidden_size * sum(map(len, self.sequences))

    @cached_property
    def work(self) -> float:
        """All of it, as `Progress` counts."""
        return self.checkpoint.config.num_hidden_layers + self._head_work * self.row_count

    def work_before(self, stage: int, rows: int = 0) -> float:
        """What is done before `stage`, and once logits of so many rows are."""
        return min(max(stage - 1, 0), self.checkpoint.config.num_hidden_layers) + self._head_work * rows

    @property
    def _head_work(self) -> float:
        """A row of logits, of one layer over all sequences: multiplications against multiplications."""
        config = self.checkpoint.config
        layer = config.hidden_size * (2 * config.hidden_size + 2 * config.kv_size + 3 * config.intermediate_size)
        return config.vocab_size * config.hidden_size / layer / sum(map(len, self.sequences))

    def run(self, stage: int, progress: Progress = lambda _done, _all: None) -> None:
        """Write the file of `stage` from that of the stage before, which may be given up then (see `forget`).

        Raises:
            CheckpointError: as `Checkpoint.tensor`.
            OSError: the disk is full or fails.
        """
        states = self._states(stage)
        done = self.work_before(stage)
        with replace_file(self._file(stage)) as file, torch.inference_mode():
            for index, state in enumerate(states):
                file.write(state.contiguous().numpy().reshape(-1).view(np.uint8).data)
                progress(done + (self.work_before(stage + 1) - done) * (index + 1) / len(self.sequences), self.work)

    def is_there(self, stage: int) -> bool:
        """Whether `stage` has left its file."""
        return self._file(stage).is_file()

    def forget(self, stage: int) -> None:
        """Remove all files of stages before `stage`."""
        for earlier in range(stage):
            self._file(earlier).unlink(missing_ok=True)

    def logits(self, start: int = 0) -> Iterator[FloatArray]:
        """Logits fp32 [some, vocab] of the asked rows from `start` on, some at a time; the last stage must be there."""
        width, vocab = self.checkpoint.shape(weight_of(LM_HEAD))[1], self.checkpoint.config.vocab_size
        step = max(1, LARGEST_LOGITS // (4 * vocab))
        step -= step % 32 if step > 32 else 0
        with closing(_Reader(self._file(self.stages - 1), width)) as reader, torch.inference_mode():
            for first in range(start, self.row_count, step):
                hidden = reader.rows(first, min(step, self.row_count - first))
                found: FloatArray = self._rounded(lm_head_logits(self.checkpoint, hidden)).numpy()
                yield found

    def _states(self, stage: int) -> Iterator[Tensor]:
        checkpoint = self.checkpoint
        if stage == 0:
            return (embed(checkpoint, torch.from_numpy(ids)) for ids in self.sequences)
        if stage < self.stages - 1:
            layer = load_layer(checkpoint, stage - 1)
            if self.rounding:
                round_activations(layer, self.rounding)
            states = (run_layer(layer, state[None], checkpoint.config)[0] for state in self._stored(stage - 1))
            return map(self._rounded, states)
        asked = zip(self._stored(stage - 1), self.rows, strict=True)
        return (self._rounded(norm(checkpoint, state)[torch.from_numpy(rows)]) for state, rows in asked)

    def _rounded(self, state: Tensor) -> Tensor:
        return self.rounding(state) if self.rounding else state

    def _stored(self, stage: int) -> Iterator[Tensor]:
        first = 0
        with closing(_Reader(self._file(stage), self.checkpoint.config.hidden_size)) as reader:
            for ids in self.sequences:
                yield reader.rows(first, len(ids))
                first += len(ids)

    def _file(self, stage: int) -> Path:
        return self.directory / f"stage-{stage}"


class _Reader:
    """Rows of a file of fp32 [rows, width]."""

    def __init__(self, path: Path, width: int) -> None:
        self._file = path.open("rb", buffering=0)
        self._width = width

    def rows(self, first: int, count: int) -> Tensor:
        self._file.seek(4 * self._width * first)
        values = np.fromfile(self._file, np.float32, count * self._width)
        return torch.from_numpy(values.reshape(count, self._width))

    def close(self) -> None:
        self._file.close()
