"""Every error that only an export can end in, and its place among those of the runtime.

Each builds its own message and names the remedy; see `dream_edge_runtime.errors`.

    DreamEdgeError
    ├── CheckpointError             (runtime)
    │   ├── CheckpointNotFound      (runtime)
    │   ├── InvalidConfig           (runtime)
    │   ├── UnreadableFile          (runtime)
    │   ├── PickleCheckpoint
    │   ├── UnsupportedCheckpoint
    │   ├── CheckpointChanged
    │   ├── TensorProblems
    │   ├── UntiedHead
    │   ├── NonFiniteWeights
    │   └── InvalidTokenizer
    ├── OutputExists, OutputForeign, OutputInsideCheckpoint
    ├── OutputBusy, NotWritable, NotEnoughDisk      (runtime)
    └── NotEnoughMemory
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from dream_edge_runtime.errors import CheckpointError, DreamEdgeError


class PickleCheckpoint(CheckpointError):
    """The weights are pickled, and so could be code."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path}: pickled weights can run code and are never opened. Convert them to safetensors first "
            "(safetensors.torch.save_file), or download the safetensors revision of the model."
        )


class UnsupportedCheckpoint(CheckpointError):
    """It is of another form than is read: quantized already, an adapter, part of something else."""

    def __init__(self, path: Path, what: str, remedy: str) -> None:
        super().__init__(f"{path}: {what}. {remedy}")


class CheckpointChanged(CheckpointError, OSError):
    """A file was changed while it was being read."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path}: the file was replaced, cut off or written to while it was being read. "
            "Wait until nothing changes it any more and run the command again."
        )


class TensorProblems(CheckpointError, KeyError):
    """Everything that is wrong with a checkpoint's tensor table, named at once."""

    def __init__(
        self,
        path: Path,
        *,
        missing: Sequence[str] = (),
        unexpected: Sequence[str] = (),
        misshaped: Mapping[str, str] | None = None,
        mistyped: Mapping[str, str] | None = None,
    ) -> None:
        self.missing, self.unexpected = tuple(missing), tuple(unexpected)
        self.misshaped, self.mistyped = dict(misshaped or {}), dict(mistyped or {})
        parts = [
            f"{len(names)} {label}: {', '.join(names)}"
            for label, names in (
                ("missing", self.missing),
                ("unexpected", self.unexpected),
                ("mis-shaped", [f"{name} {what}" for name, what in self.misshaped.items()]),
                ("of a wrong type", [f"{name} {what}" for name, what in self.mistyped.items()]),
            )
            if names
        ]
        super().__init__(
            f"{path}: tensors do not match config.json ({'; '.join(parts)}). "
            "Check that the weights and config.json belong together and that every shard is there."
        )


class UntiedHead(CheckpointError):
    """config.json ties lm_head to the embedding, and another lm_head is stored."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path}: config.json ties lm_head to the embedding (tie_word_embeddings), but the lm_head.weight that is "
            "stored differs from it. If it is the trained one, set tie_word_embeddings to false in config.json; "
            "otherwise remove lm_head.weight."
        )


class NonFiniteWeights(CheckpointError, ArithmeticError):
    """A weight is not a number."""

    def __init__(self, path: Path, name: str) -> None:
        super().__init__(f"{path}: {name} holds NaN or infinite weights. The checkpoint is damaged: download it again.")


class InvalidTokenizer(CheckpointError):
    """The tokenizer's files are missing, or do not fit the network."""

    def __init__(self, path: Path | str, why: str) -> None:
        super().__init__(
            f"{path}: {why}. Copy vocab.json, merges.txt and tokenizer_config.json (or tokenizer.json) of the "
            "original checkpoint beside the weights."
        )


class OutputExists(DreamEdgeError, FileExistsError):
    """An export does not replace an artifact unless told to."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} already exists. Pass --force to replace it, or name another directory.")


class OutputForeign(DreamEdgeError, FileExistsError):
    """An export never removes files that are not an artifact's."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path} holds other files than an artifact's; they are not removed, even with --force. "
            "Name another directory."
        )


class OutputInsideCheckpoint(DreamEdgeError, ValueError):
    """An export does not write into the checkpoint it reads."""

    def __init__(self, path: Path, checkpoint: Path) -> None:
        super().__init__(
            f"{path} lies inside the checkpoint {checkpoint}, which stays as it is. Name a directory elsewhere."
        )


class NotEnoughMemory(DreamEdgeError, MemoryError):
    """The export does not fit the memory: `needed` and `available`, in bytes."""

    def __init__(self, needed: int, available: int) -> None:
        self.needed, self.available = needed, available
        super().__init__(
            f"the export needs {needed / 1e9:.2f} GB of memory and {available / 1e9:.2f} GB are available. "
            "Close other programs, or choose a scheme that holds less at once (--scheme int4)."
        )
