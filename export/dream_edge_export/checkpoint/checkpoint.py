"""A Dream checkpoint on disk, checked against its configuration before a weight is read.

Only safetensors are opened: their header says where each tensor lies and no code can hide in them. Of a tensor only the
asked rows are read, and a file that changes between two reads is an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import torch

from dream_edge_runtime.errors import CheckpointNotFound, DreamEdgeError, UnreadableFile
from dream_edge_runtime.files.json import read_json_object
from dream_edge_runtime.format.model_config import ModelConfig
from dream_edge_runtime.format.tensors import EMBEDDING, LM_HEAD, tensor_shapes, weight_of

from ..errors import NonFiniteWeights, TensorProblems, UntiedHead
from .bnb_nf4 import PackedMatrix, find_packed_matrices
from .config import read_checkpoint_config, read_generation_defaults
from .foreign import INDEX_FILE, SINGLE_FILE, check_directory, check_form
from .forms import NOTHING_STATED, StatedFacts
from .tensor_file import TensorEntry, TensorFile

_EMBEDDING, _LM_HEAD = weight_of(EMBEDDING), weight_of(LM_HEAD)
_DTYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}
_CONSTANTS = re.compile(r"(.*\.)?rotary_emb\.(inv_freq|original_inv_freq|cos_cached|sin_cached)")
_LARGEST_INDEX = 1 << 26


@dataclass(frozen=True)
class _Stored:
    """A tensor in one of the files."""

    name: str
    file: TensorFile
    packed: PackedMatrix | None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.packed.shape if self.packed else self.file.entries[self.name].shape

    def read(self, first: int, last: int | None) -> torch.Tensor:
        if self.packed:
            tensor = self.packed.rows(first, self.packed.shape[0] if last is None else last)
        else:
            tensor = self.file.read(self.name, first, last)
        if tensor.numel() and not torch.stack(tensor.aminmax()).isfinite().all():
            raise NonFiniteWeights(self.file.path, self.name)
        return tensor


class Checkpoint:
    """The files of one checkpoint. Make one with `Checkpoint.open`; all its methods may be called from several threads.

    Attributes:
        path: the directory.
        config: its geometry.
        stated: what its files leave open, as it was given.
        generation_defaults: generation_config.json as far as it can be used, empty where there is none.
        files: the safetensors files.
        tensor_files: the same, with their tables.
        dtype: the type of the embedding, which the published checkpoints use for every tensor.
        names: every tensor, in the order of the network; no lm_head where the configuration ties it to the embedding.
    """

    def __init__(
        self,
        path: Path,
        config: ModelConfig,
        generation_defaults: Mapping[str, Any],
        tensor_files: Mapping[str, TensorFile],
        packed: Mapping[str, PackedMatrix],
        stated: StatedFacts = NOTHING_STATED,
    ) -> None:
        self.path: Path = path
        self.stated: StatedFacts = stated
        self.config: ModelConfig = config
        self.generation_defaults: dict[str, Any] = dict(generation_defaults)
        self.tensor_files: tuple[TensorFile, ...] = tuple(
            sorted(set(tensor_files.values()), key=lambda file: file.path)
        )
        self.files: tuple[Path, ...] = tuple(file.path for file in self.tensor_files)
        # each with the copies that it must equal: some checkpoints store a tied lm_head too
        stored: dict[str, tuple[_Stored, ...]] = {
            name: (_Stored(name, file, packed.get(name)),) for name, file in tensor_files.items()
        }
        if config.tie_word_embeddings:
            stored[_EMBEDDING] = stored[_EMBEDDING] + stored.pop(_LM_HEAD, ())
        self.names: tuple[str, ...] = tuple(stored)
        self._stored = stored | {_LM_HEAD: stored[_EMBEDDING]} if config.tie_word_embeddings else stored
        self.dtype: torch.dtype = _DTYPES[tensor_files[_EMBEDDING].entries[_EMBEDDING].dtype]
        if len(stored[_EMBEDDING]) > 1:
            for row in {0, config.vocab_size // 2, config.vocab_size - 1}:  # the rest, as it is read
                self._read(_EMBEDDING, row, row + 1)

    @classmethod
    def open(cls, path: Path, stated: StatedFacts = NOTHING_STATED) -> Checkpoint:
        """Check everything that can be known without reading the weights; `stated` is what the files leave open.

        Raises:
            CheckpointNotFound: `path` is not a checkpoint, or a file of it is absent.
            PickleCheckpoint: there are only pickled weights.
            UnsupportedCheckpoint: it is quantized already, an adapter, or the like.
            InvalidConfig: config.json does not describe a network of the family.
            InvalidOption: `stated` contradicts the files.
            UnreadableFile: a file is truncated or damaged, or the index contradicts the shards.
            TensorProblems: tensors are missing, unexpected, mis-shaped or of a type other than bf16, fp16 and fp32.
            UntiedHead: lm_head is stored, is to be the embedding, and differs from it.
        """
        try:
            return cls._open(Path(path), stated)
        except OSError as error:
            if isinstance(error, DreamEdgeError):
                raise
            raise UnreadableFile(path, f"cannot be read ({error.strerror})") from None

    @classmethod
    def _open(cls, path: Path, stated: StatedFacts) -> Checkpoint:
        check_directory(path)
        config = read_checkpoint_config(path, stated)
        weight_map = _read_index(path)
        tables = {file: TensorFile.open(path / file) for file in sorted(set(weight_map.values()) or {SINGLE_FILE})}
        found = {name: file for file in tables.values() for name in file.entries if not _CONSTANTS.fullmatch(name)}
        packed = find_packed_matrices(found)
        expected = tensor_shapes(config)
        optional = {_LM_HEAD} if config.tie_word_embeddings else set[str]()  # some tied checkpoints store both
        _check_tensors(path, expected, optional, found, packed)
        if weight_map:
            needed = {name: file for name, file in weight_map.items() if name in found or name not in optional}
            _check_index(path / INDEX_FILE, needed, tables)
        defaults = read_generation_defaults(path)
        return cls(path, config, defaults, {name: found[name] for name in expected if name in found}, packed, stated)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of tensor `name`, unpacked."""
        return self._stored[name][0].shape

    def nbytes(self, name: str) -> int:
        """Bytes of tensor `name` in its file."""
        stored = self._stored[name][0]
        return stored.file.entries[stored.name].nbytes

    def tensor(self, name: str) -> torch.Tensor:
        """The tensor `name` in its own type; fp32 if bitsandbytes packed it. A tied lm_head is the embedding.

        Raises:
            KeyError: a network of this configuration has no such tensor.
            NonFiniteWeights: it holds NaN or infinity.
            CheckpointChanged: the file was replaced or written to since the checkpoint was opened.
            UnreadableFile: the disk fails.
            UntiedHead: it is the embedding, and the lm_head that is stored beside it differs.
        """
        return self._read(name, 0, None)

    def rows(self, name: str, start: int, stop: int) -> torch.Tensor:
        """Rows `start` to `stop` of the first dimension of `name`; only these are read. Errors as for `tensor`."""
        if not 0 <= start <= stop <= self.shape(name)[0]:
            raise IndexError(f"rows {start} to {stop} of {name} {list(self.shape(name))}")
        return self._read(name, start, stop)

    def _read(self, name: str, first: int, last: int | None) -> torch.Tensor:
        stored, *copies = self._stored[name]
        tensor = stored.read(first, last)
        for copy in copies:
            if not torch.equal(tensor.float(), copy.read(first, last).float()):
                raise UntiedHead(self.path)
        return tensor


def _read_index(path: Path) -> dict[str, str]:
    """Tensor name → shard, from the index; empty for a checkpoint in a single file."""
    if (path / SINGLE_FILE).is_file():
        return {}
    index = path / INDEX_FILE
    if not index.is_file():
        raise CheckpointNotFound(path, f"{SINGLE_FILE} or {INDEX_FILE}")
    weight_map = read_json_object(index, limit=_LARGEST_INDEX).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise UnreadableFile(index, "weight_map is not a table of tensor names and files")
    for file in weight_map.values():
        if not _is_flat(file):
            raise UnreadableFile(index, f"{ascii(file)[:80]} is not the name of a safetensors file in this directory")
    absent = sorted({file for file in weight_map.values() if not (path / file).is_file()})
    if absent:
        raise CheckpointNotFound(path, ", ".join(absent))
    return weight_map


def _is_flat(file: object) -> bool:
    """Whether `file` is a safetensors file's name without a directory, by the rules of every platform."""
    return (
        isinstance(file, str)
        and file.isprintable()
        and file.endswith(".safetensors")
        and file == PurePosixPath(file).name == PureWindowsPath(file).name
    )


def _check_tensors(
    path: Path,
    expected: Mapping[str, tuple[int, ...]],
    optional: Set[str],
    files: Mapping[str, TensorFile],
    packed: Mapping[str, PackedMatrix],
) -> None:
    parts = {part for matrix in packed.values() for part in matrix.parts}
    found = {name: file.entries[name] for name, file in files.items() if name not in parts}
    found |= {name: TensorEntry("F32", matrix.shape) for name, matrix in packed.items()}  # what it is read as
    wrong = {name: entry for name, entry in found.items() if expected.get(name, entry.shape) != entry.shape}
    problems: dict[str, Any] = {
        "missing": [name for name in expected if name not in found and name not in optional],
        "unexpected": [name if name.isprintable() else ascii(name) for name in sorted(found) if name not in expected],
        "misshaped": {name: f"{list(wrong[name].shape)}, expected {list(expected[name])}" for name in sorted(wrong)},
        "mistyped": {
            name: f"{found[name].dtype}, expected {', '.join(_DTYPES)}"
            for name in sorted(found)
            if name in expected and found[name].dtype not in _DTYPES
        },
    }
    if any(problems.values()):
        check_form(path, found, problems["unexpected"])
        raise TensorProblems(path, **problems)


def _check_index(index: Path, weight_map: Mapping[str, str], tables: Mapping[str, TensorFile]) -> None:
    """Index and shards say the same: every tensor in exactly one shard, the one the index names."""
    stored = {(name, file) for file, table in tables.items() for name in table.entries}
    if differing := sorted(name for name, _ in stored ^ {*weight_map.items()} if not _CONSTANTS.fullmatch(name)):
        raise UnreadableFile(index, f"it contradicts the shards about {ascii(differing[0])[:80]}")
