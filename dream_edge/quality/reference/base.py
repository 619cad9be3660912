"""Reference predictions: what the full-precision network says of an evaluation set, kept in a file and read by rows."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from dream_edge_runtime.arrays import FloatArray
from dream_edge_runtime.files.regular import Stamp
from dream_edge_runtime.files.writing import replace_file
from dream_edge_runtime.format.model_config import ModelConfig

from ..errors import BaseNotFound, CompareError, CorruptBase, MismatchedBase
from ..measure.differences import Differences, DoubleArray, concatenate, differences
from ..texts.masking import Evaluation
from .file import About, Codes, Layout, arrays_of, decode, evaluation_of, header, read_header

if TYPE_CHECKING:
    from dream_edge_export.checkpoint.checkpoint import Checkpoint

_COPIED = 1 << 24
_ROWS_AT_ONCE = 32  # of a vocabulary of 152064: 39 MB an array


@dataclass(frozen=True)
class Base:
    """Reference predictions: log-probabilities at every masked position of an evaluation set.

    Make one with `build_base`, or open the file of one. Only the asked rows are read. The file may come from a
    stranger: it is data, and every size in it is checked.
    """

    path: Path
    about: About
    evaluation: Evaluation
    _layout: Layout
    _start: int
    _stamp: Stamp

    @classmethod
    def open(cls, path: Path) -> Base:
        """Raises BaseNotFound, CorruptBase, UnsupportedBase."""
        path = Path(path)
        with _reading(path) as file:
            stamp = Stamp.of(file.fileno())
            about, layout, start = read_header(file, stamp.size, path)
            arrays = {}
            for name in layout.arrays:
                if name == "codes":
                    break
                first, last = layout.span(name)
                arrays[name] = np.frombuffer(_read(file, start + first, last - first), "<i4")
            try:
                evaluation = evaluation_of(arrays, about)
            except ValueError as error:
                raise CorruptBase(path, str(error)) from None
        return cls(path, about, evaluation, layout, start, stamp)

    @property
    def config(self) -> ModelConfig:
        """The geometry of the network it was made from."""
        return self.about.config

    @property
    def name(self) -> str:
        """What the checkpoint was called."""
        return self.about.checkpoint

    def check(self, checkpoint: Checkpoint) -> None:
        """Raises MismatchedBase unless it was made from `checkpoint`. This needs PyTorch."""
        from dream_edge_export.checkpoint.provenance import fingerprint

        if fingerprint(checkpoint) != self.about.fingerprint:
            raise MismatchedBase(self.path, checkpoint.path)

    def extra(self, name: str) -> Any:
        """What was kept as `name`; None if there is nothing."""
        return self.about.extras.get(name)

    def log_probs(self, first: int, last: int) -> DoubleArray:
        """Log-probabilities [last - first, vocab] of masked positions, counted through all passages.

        Those of passage i are `evaluation.starts[i]` to `evaluation.starts[i + 1]`. A row of 152064 takes 1.2 MB.
        Raises CorruptBase where a checksum is wrong, or the file was replaced or written to since it was opened.
        """
        if not 0 <= first <= last <= self._layout.rows:
            raise IndexError(f"rows {first} to {last} of {self._layout.rows}")
        vocab, count = self._layout.vocab, last - first
        with _reading(self.path) as file:
            if Stamp.of(file.fileno()) != self._stamp:
                raise CorruptBase(self.path, "it was replaced or written to after it was opened")
            data = _read(file, self._start + self._layout.span("codes")[0] + 2 * vocab * first, 2 * vocab * count)
            sums = _read(file, self._start + self._layout.span("checksums")[0] + 4 * first, 4 * count)
        codes: Codes = np.frombuffer(data, "<u2").reshape(count, vocab)
        if (checksums(codes) != np.frombuffer(sums, "<u4")).any():
            raise CorruptBase(self.path, f"the checksum of a row from {first} to {last} is wrong")
        return decode(codes)

    def differences(self, first: int, logits: FloatArray) -> Differences:
        """Compare the predictions from row `first` on with `logits` [masked, vocab], a few at a time in memory."""
        parts = []
        for start in range(0, len(logits), _ROWS_AT_ONCE):
            some, row = logits[start : start + _ROWS_AT_ONCE], first + start
            last = row + len(some)
            parts.append(differences(self.log_probs(row, last), some, self.evaluation.targets[row:last]))
        return concatenate(parts)

    def with_extra(self, name: str, value: Any) -> Base:
        """Keep `value`, of plain values for JSON, in a new file under `name`, which then replaces the old one.

        Raises: NotWritable; ValueError or TypeError where `value` is not plain, or too large.
        """
        about = replace(self.about, extras={**self.about.extras, name: value})
        with replace_file(self.path) as goal, self.path.open("rb") as source:
            goal.write(header(about, self._layout))
            source.seek(self._start)
            while chunk := source.read(_COPIED):
                goal.write(chunk)
        return Base.open(self.path)


def checksums(codes: Codes) -> NDArray[np.uint32]:
    """CRC-32 of each row."""
    return np.array([zlib.crc32(row) for row in np.ascontiguousarray(codes, "<u2")], "<u4")


def head_of_file(about: About, evaluation: Evaluation) -> bytes:
    """A base's file up to its codes."""
    layout = Layout(len(evaluation.passages), evaluation.tokens, evaluation.rows, about.config.vocab_size)
    return header(about, layout) + b"".join(values.tobytes() for values in arrays_of(evaluation).values())


@contextmanager
def _reading(path: Path) -> Iterator[BinaryIO]:
    try:
        if not path.is_file():
            raise BaseNotFound(path)
        with path.open("rb") as file:
            yield file
    except EOFError:
        raise CorruptBase(path, "it ends too early") from None
    except OSError as error:
        if isinstance(error, CompareError):
            raise
        raise CorruptBase(path, f"cannot be read ({error.strerror})") from None


def _read(file: BinaryIO, start: int, size: int) -> bytes:
    file.seek(start)
    data = file.read(size)
    if len(data) != size:
        raise EOFError
    return data
