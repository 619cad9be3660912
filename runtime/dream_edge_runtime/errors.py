"""Every error a user can cause: what was wrong, where, and what to do about it.

Each class inherits `DreamEdgeError` and the builtin that fits, and builds its own message, so that callers can catch
either and nobody formats messages at the place of the failure.

    DreamEdgeError
    ├── CheckpointError             more in dream_edge_export.errors
    │   ├── CheckpointNotFound
    │   ├── InvalidConfig
    │   └── UnreadableFile
    ├── ArtifactError
    │   ├── ArtifactNotFound
    │   ├── CorruptArtifact
    │   └── UnsupportedArtifact
    ├── PromptError
    │   ├── EmptyPrompt, CanvasTooLong, InvalidText, InvalidTokenId
    │   └── InvalidTemplate, InvalidConversation, CannotChat
    ├── InvalidOption, UnknownOption
    ├── NotWritable, OutputBusy, NotEnoughDisk
    ├── MissingExtra, DeviceUnavailable
    ├── OnnxRuntimeUnfit, WrongProduct
    ├── TooLittleMemory, OutOfMemory
    ├── UnsafeCache, CacheEntryNotFound, NothingToRequantize
    ├── NonFiniteLogits
    └── Cancelled
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path


class DreamEdgeError(Exception):
    """Base of all errors that dream-edge raises on purpose. Its text is one line that names the remedy."""

    def __str__(self) -> str:  # KeyError would show the repr of its argument
        return str(self.args[0]) if self.args else type(self).__name__

    def __reduce__(self) -> tuple[object, ...]:  # for copies, and between processes: not by what __init__ takes
        return _restore, (type(self), self.args), self.__dict__


def _restore(kind: type[DreamEdgeError], arguments: tuple[object, ...]) -> DreamEdgeError:
    """An error without its `__init__`, made by the one of its builtin bases whose memory fits."""
    for base in kind.__mro__:
        with suppress(KeyError, TypeError):
            error: DreamEdgeError = vars(base)["__new__"](kind)
            error.args = arguments
            return error
    raise TypeError(kind)


class CheckpointError(DreamEdgeError, ValueError):
    """The checkpoint cannot be used."""


class CheckpointNotFound(CheckpointError, FileNotFoundError):
    """There is no checkpoint of that name."""

    def __init__(self, path: Path | str, missing: str = "config.json") -> None:
        super().__init__(
            f"{path}: no {missing} here. Name the directory of a Dream checkpoint: config.json, *.safetensors, "
            "vocab.json and merges.txt (or tokenizer.json)."
        )


class InvalidConfig(CheckpointError):
    """config.json or generation_config.json says something impossible; `problems` lists all of it."""

    def __init__(self, path: Path | str, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        remedy = "Is this the config.json of a checkpoint of the family?"
        if Path(path).name != "config.json":
            remedy = "Correct it, or export an undamaged checkpoint."
        super().__init__(f"{path}: {'; '.join(problems)}. {remedy}")


class UnreadableFile(CheckpointError, OSError):
    """A file is cut off, or not what its name says."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path}: {why}. The file is damaged or incomplete: download it again.")


class ArtifactError(DreamEdgeError, ValueError):
    """The artifact cannot be used."""


class ArtifactNotFound(ArtifactError, FileNotFoundError):
    """There is no artifact of that name."""

    def __init__(self, path: Path | str) -> None:
        super().__init__(
            f"{path}: no artifact here (a directory with manifest.json). "
            "Make one with `dream-edge export CHECKPOINT OUT --scheme int4`, or name the bundled model: tiny."
        )


class CorruptArtifact(ArtifactError):
    """A file is missing, of another size or digest, or not what the manifest implies."""

    def __init__(self, path: Path | str, why: str) -> None:
        super().__init__(f"{path}: {why}. The artifact is damaged or was changed: export or download it again.")


class UnsupportedArtifact(ArtifactError):
    """It is whole, but not for this: a checkpoint, a newer format, another scheme."""

    def __init__(self, path: Path | str, why: str, remedy: str) -> None:
        super().__init__(f"{path}: {why}. {remedy}")


class NotWritable(DreamEdgeError, OSError):
    """The disk is full or fails, or the place is read-only."""

    def __init__(self, path: Path, why: str, remedy: str = "Name a writable directory with enough free space.") -> None:
        super().__init__(f"{path}: cannot write there: {why}. {remedy}")


class OutputBusy(DreamEdgeError, BlockingIOError):
    """Another process is writing there; `holder` is its id, where that is known."""

    def __init__(self, path: Path, holder: int | None) -> None:
        self.holder = holder
        who = "another process" if holder is None else f"process {holder}"
        super().__init__(f"{path}: {who} is writing there. Wait until it is done, or name another place.")


class NotEnoughDisk(DreamEdgeError, OSError):
    """What is to be written does not fit the disk: `needed` and `free`, in bytes."""

    def __init__(self, path: Path, needed: int, free: int, remedy: str) -> None:
        self.needed, self.free = needed, free
        super().__init__(
            f"{path}: about {needed / 1e9:.2f} GB are to be written there and {free / 1e9:.2f} GB are free. "
            f"Make room, or {remedy}."
        )


class MissingExtra(DreamEdgeError, ImportError):
    """A library is not installed; `extra` names what brings it."""

    def __init__(self, purpose: str, extra: str) -> None:
        self.extra = extra
        super().__init__(f'{purpose} needs the "{extra}" extra: pip install "dream-edge[{extra}]".')


class DeviceUnavailable(DreamEdgeError, RuntimeError):
    """The device, its driver or its libraries are missing."""

    def __init__(self, device: str, why: str) -> None:
        super().__init__(f"device {device!r} is not available: {why}")


class OnnxRuntimeUnfit(DreamEdgeError, RuntimeError):
    """The installed ONNX Runtime refuses the graph, which is dream-edge's own and not the artifact's."""

    def __init__(self, version: str, said: str) -> None:
        end = said.strip().splitlines()[0][-200:] if said.strip() else "no reason given"
        super().__init__(
            f"ONNX Runtime {version} does not run this model (…{end}). Install the version that dream-edge is tested "
            "with: pip install onnxruntime==1.31.1 (onnxruntime-gpu for CUDA)."
        )


class WrongProduct(DreamEdgeError, ArithmeticError):
    """A kernel of ONNX Runtime is wrong here, by `times` as much as rounding explains: the text would be bad."""

    def __init__(self, path: Path, what: str, times: float, device: str, version: str, scheme: str) -> None:
        self.times = times
        elsewhere = "run on the CPU: device='cpu' (--device cpu); " if device == "cuda" else ""
        super().__init__(
            f"{path}: ONNX Runtime {version} gets {what} wrong on this {'GPU' if device == 'cuda' else 'processor'}, "
            f"{times:.3g} times as much as rounding explains. Do one of these: {elsewhere}install another version of "
            f"ONNX Runtime; export with another scheme (--scheme {scheme}); or load it all the same, for what may be "
            "bad text: self_check=False (DREAM_EDGE_SELF_CHECK=0)."
        )


class TooLittleMemory(DreamEdgeError, MemoryError):
    """The model does not fit the machine's, or the GPU's, free memory. Bytes `needed`, `free`, of `smaller` schemes."""

    def __init__(
        self, path: Path, needed: int, free: int, smaller: Mapping[str, int], *, on_gpu: bool, has_cpu_graph: bool
    ) -> None:
        self.needed, self.free, self.smaller = needed, free, dict(smaller)
        memory = "the GPU's memory" if on_gpu else "memory"
        remedies = [f"close other programs{' that use the GPU' if on_gpu else ''}"]
        if on_gpu:
            hint = "" if has_cpu_graph else ", once it is exported with --target all"
            remedies.append(f"run it on the CPU: device='cpu' (--device cpu){hint}")
        if smaller:
            fitting = ", ".join(f"{scheme} takes {size / 1e9:.1f} GB" for scheme, size in smaller.items())
            remedies.append(f"export it with a smaller scheme ({fitting})")
        super().__init__(
            f"{path}: loading and running it takes about {needed / 1e9:.1f} GB of {memory} and {free / 1e9:.1f} GB are "
            f"free. Do one of these: {'; '.join(remedies)}; or load it all the same: memory_check=False "
            "(--no-memory-check)."
        )


class OutOfMemory(DreamEdgeError, MemoryError):
    """A pass does not fit the memory of its device."""

    def __init__(self, *, on_gpu: bool = False) -> None:
        memory, other = ("the GPU's memory", ", or run on the CPU (--device cpu)") if on_gpu else ("the memory", "")
        super().__init__(
            f"{memory} is full. Close other programs that use it, ask for fewer tokens (-n) or smaller blocks "
            f"(--block-length), export with a smaller scheme (--scheme int4){other}."
        )


class UnsafeCache(DreamEdgeError, PermissionError):
    """Other users could put a model into the cache."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path} belongs to another user or can be written by others, who could put a model there. "
            "Remove it, or take it back: chown, and chmod go-w."
        )


class NothingToRequantize(DreamEdgeError, ValueError):
    """Only 4-bit weights can be run as 8-bit ones."""

    def __init__(self, path: Path, scheme: str) -> None:
        super().__init__(
            f"{path}: its weights for the CPU ({scheme}) are not in groups of 4 bits, which --as-int8 is for. "
            "Load it without --as-int8 (as_int8=True)."
        )


class CacheEntryNotFound(DreamEdgeError, LookupError):
    """The cache holds no such copy."""

    def __init__(self, key: str) -> None:
        super().__init__(f"the cache holds no copy {key!r}. `dream-edge cache` lists what there is.")


class InvalidOption(DreamEdgeError, ValueError):
    """An option `name` has a `value` that it cannot have."""

    def __init__(self, name: str, value: object, requirement: str) -> None:
        self.name: str = name
        self.value: object = value
        self.requirement: str = f"{requirement}."
        try:
            written = repr(value)
        except ValueError:  # Python writes out no integer of thousands of digits
            written = "a huge number"
        self.shown: str = written if len(written) <= 200 else f"{written:.200} …"
        super().__init__(f"{name}={self.shown}: {name} {self.requirement}")


class UnknownOption(DreamEdgeError, TypeError):
    """There is no option of that name."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        super().__init__(f"there is no generation option {name!r}. Options: {', '.join(known)}.")


class PromptError(DreamEdgeError, ValueError):
    """The input text or ids cannot be used."""


class EmptyPrompt(PromptError):
    """There is nothing to continue."""

    def __init__(self) -> None:
        super().__init__("the prompt is empty. Give some text, or use infill/fill to write without one.")


class CanvasTooLong(PromptError):
    """What is given and what is new exceed the model's context."""

    def __init__(self, length: int, context: int) -> None:
        self.length: int = length
        self.context: int = context
        super().__init__(
            f"prompt and new tokens make a canvas of {length} tokens; the model's context is {context}. "
            "Shorten the prompt, lower max_new_tokens (-n) or make the holes smaller."
        )


class InvalidText(PromptError, UnicodeError):
    """The text cannot be encoded: it holds half of a surrogate pair."""

    # UnicodeError takes one message; only its subclasses need positions
    def __init__(self, position: int) -> None:
        super().__init__(
            f"the text holds a lone surrogate at character {position}, which no encoding can carry. "
            "Decode the input as UTF-8 (errors='replace') before passing it on."
        )


class InvalidTokenId(PromptError, IndexError):
    """A token id is outside the vocabulary."""

    def __init__(self, token: int, vocab_size: int) -> None:
        super().__init__(f"token id {token} is outside the vocabulary: ids run from 0 to {vocab_size - 1}.")


class InvalidTemplate(PromptError):
    """A text with holes has none, or impossible ones."""

    def __init__(self, why: str) -> None:
        super().__init__(f"{why}. Mark holes as [[N]], N the number of tokens, e.g. 'The [[2]] sat.'")


class InvalidConversation(PromptError):
    """The messages are no conversation that could be answered."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"{why}. Give messages as [{{'role': 'user', 'content': '...'}}, ...], the last from the user."
        )


class CannotChat(PromptError):
    """The model takes no conversations: its vocabulary has no markers for turns, or its chat template is not known."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"this model {reason}, so it cannot chat. Continue a text with it instead: raw=True (--raw).")


class NonFiniteLogits(DreamEdgeError, ArithmeticError):
    """The network computed something that is not a number, at canvas `position`."""

    def __init__(self, position: int) -> None:
        self.position = position
        super().__init__(
            f"the model's logits for position {position} are not numbers (NaN or infinite). "
            "Check the artifact with `dream-edge verify`; if it is whole, export it from an undamaged checkpoint, "
            "or, if this is a GPU, run on the CPU (--device cpu): values may be too large for fp16."
        )


class Cancelled(DreamEdgeError, InterruptedError):
    """The generation was stopped, by its `cancel` event or by closing it."""

    def __init__(self) -> None:
        super().__init__("generation was cancelled.")
