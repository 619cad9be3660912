"""Matrices that bitsandbytes has quantized to NF4 already, as transformers saves them.

Beside the codes `X` lie `X.absmax`, `X.quant_map` and a JSON text, `X.quant_state.bitsandbytes__nf4`. With double
quantization absmax is u8 itself: codes into `X.nested_quant_map`, scaled by `X.nested_absmax`, around `nested_offset`.

The matrices are read as the numbers they stand for. Exported as nf4 with the same block size, they get the same bytes
again: the largest magnitude of a block is its absmax, and every other number rounds to its own code.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dream_edge_runtime.errors import DreamEdgeError, UnreadableFile
from dream_edge_runtime.files.json import parse_json_object

from .tensor_file import TensorFile

_STATE = ".quant_state.bitsandbytes__nf4"
_PARTS = (".absmax", ".quant_map", ".nested_absmax", ".nested_quant_map", _STATE)
_LARGEST_STATE = 1 << 16

Files = Mapping[str, TensorFile]
"""The file of each tensor."""


@dataclass(frozen=True)
class PackedMatrix:
    """One matrix [out, in] of 4-bit codes; where its parts lie and how they are to be read."""

    name: str
    shape: tuple[int, int]
    block_size: int
    values: Tensor
    """fp32 [16] what the codes stand for."""
    absmax: Tensor
    """fp32 [blocks], double quantization undone."""
    file: TensorFile

    @classmethod
    def open(cls, name: str, files: Files) -> PackedMatrix:
        """Raises UnreadableFile where the parts are not what bitsandbytes writes."""
        path = files[name].path
        try:
            state = _read_state(files, name)
            shape, block_size = state["shape"], state["blocksize"]
            if state["quant_type"] != "nf4" or len(shape) != 2 or block_size < 2 or block_size % 2:
                raise ValueError("it is not an nf4 matrix")
            weights = shape[0] * shape[1]
            _expect(files, name, "U8", -(-weights // 2))
            values = _read_part(files, f"{name}.quant_map", "F32")
            blocks = -(-weights // block_size)
            absmax = _read_absmax(files, name, state, blocks)
            if len(values) != 16 or len(absmax) != blocks:
                raise ValueError("its parts do not fit together")
        except (KeyError, ValueError, TypeError) as error:
            if isinstance(error, DreamEdgeError):
                raise
            raise UnreadableFile(path, f"{name} is no matrix of bitsandbytes ({error})") from None
        return cls(name, (shape[0], shape[1]), block_size, values, absmax, files[name])

    @property
    def parts(self) -> set[str]:
        """The names of its tensors other than the codes."""
        return {self.name + part for part in _PARTS}

    def rows(self, first: int, last: int) -> Tensor:
        """Rows `first` to `last`, fp32 [rows, in]. Errors as for `TensorFile.read`."""
        inputs = self.shape[1]
        begin, end = first * inputs, last * inputs
        first_block, last_block = begin // self.block_size, -(-end // self.block_size)
        start, stop = first_block * self.block_size, min(last_block * self.block_size, math.prod(self.shape))
        packed = self.file.read(self.name, start // 2, -(-stop // 2)).reshape(-1).int()
        codes = torch.stack([packed >> 4, packed & 15], dim=1).reshape(-1)[: stop - start]
        scales = self.absmax[first_block:last_block].repeat_interleave(self.block_size)[: stop - start]
        return (self.values[codes] * scales)[begin - start : end - start].reshape(-1, inputs)


def find_packed_matrices(files: Files) -> dict[str, PackedMatrix]:
    """The matrices of a checkpoint that are stored as NF4, by name. Raises UnreadableFile."""
    names = [name.removesuffix(_STATE) for name in files if name.endswith(_STATE)]
    return {name: PackedMatrix.open(name, files) for name in names if name in files}


def _read_state(files: Files, name: str) -> dict[str, Any]:
    if math.prod(files[name + _STATE].entries[name + _STATE].shape) > _LARGEST_STATE:
        raise ValueError("its state is too long")
    state = parse_json_object(bytes(_read_part(files, name + _STATE, "U8").tolist()))
    for number in (state["blocksize"], *state["shape"], state.get("nested_blocksize", 1)):
        if type(number) is not int or not 0 < number < 1 << 31:
            raise ValueError("shape and block sizes must be positive integers")
    return state


def _read_absmax(files: Files, name: str, state: Mapping[str, Any], blocks: int) -> Tensor:
    if "nested_offset" not in state:
        return _read_part(files, f"{name}.absmax", "F32")
    _expect(files, f"{name}.absmax", "U8", blocks)
    codes = _read_part(files, f"{name}.absmax", "U8").int()
    values = _read_part(files, f"{name}.nested_quant_map", "F32")
    scales, size = _read_part(files, f"{name}.nested_absmax", "F32"), state["nested_blocksize"]
    if len(values) != 256 or len(scales) * size < blocks:
        raise ValueError("its nested parts do not fit together")
    return values[codes] * scales[torch.arange(blocks) // size] + torch.tensor(float(state["nested_offset"]))


def _read_part(files: Files, name: str, dtype: str) -> Tensor:
    _expect(files, name, dtype)
    return files[name].read(name).reshape(-1)


def _expect(files: Files, name: str, dtype: str, elements: int | None = None) -> None:
    entry = files[name].entries[name]
    if entry.dtype != dtype or (elements is not None and math.prod(entry.shape) != elements):
        raise ValueError(f"{name} is {entry.dtype} {list(entry.shape)}")
