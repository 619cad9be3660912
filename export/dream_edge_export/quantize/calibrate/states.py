"""Hidden states on disk, so that memory does not grow with the number of sequences."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dream_edge_runtime.files.writing import open_to_append, write_all

from .inputs import Batch


class States:
    """fp32 [tokens, width] in the order of the batches. Nothing is mapped: it would count as resident memory."""

    def __init__(self, path: Path, width: int) -> None:
        self.path, self.width = path, width

    def read(self, batch: Batch) -> Tensor:
        """[canvases, length, width]; EOFError if it was not written."""
        values = np.empty((*batch.ids.shape, self.width), np.float32)
        with self.path.open("rb", buffering=0) as file:
            file.seek(4 * self.width * batch.first)
            view = values.reshape(-1).view(np.uint8).data
            while view:
                count = file.readinto(view)
                if not count:
                    raise EOFError(self.path)
                view = view[count:]
        return torch.from_numpy(values)

    def append(self, batch: Batch, values: Tensor) -> None:
        """Write the states of `batch`, cutting off what came after it."""
        fd = open_to_append(self.path, 4 * self.width * batch.first)
        try:
            write_all(fd, np.ascontiguousarray(values.numpy(), "<f4").reshape(-1).view(np.uint8).data)
        finally:
            os.close(fd)

    def sync(self) -> None:
        """Have them on the disk."""
        fd = os.open(self.path, os.O_RDWR | getattr(os, "O_BINARY", 0))
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
