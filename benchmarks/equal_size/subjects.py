"""Who is compared: every format as the weights it stores and as the products it computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import Tensor

from dream_edge.quality.measure.differences import Differences
from dream_edge_export.checkpoint.checkpoint import Checkpoint
from dream_edge_export.reference.model import load_reference
from dream_edge_runtime.artifact import Artifact
from dream_edge_runtime.format.tensors import EMBEDDING, matrix_shapes

from .activations import Rounding, by_row, of_gguf_type, round_inputs
from .artifact_weights import read_artifact
from .bitsandbytes_weights import NF4_BITS, NF4_NESTED_BITS, THRESHOLD, int8, int8_bits, nf4
from .evaluation import Logits, of_artifact, of_network
from .gguf_weights import read_gguf
from .stored import Bits, Stored, body_count, body_names, of_bits, of_formats, of_tensors

OURS, LLAMA_CPP, BITSANDBYTES = "dream-edge", "llama.cpp", "bitsandbytes"


@dataclass(frozen=True)
class Subject:
    """A format of one checkpoint. Models are made when they are measured, so that one is in memory at a time.

    Attributes:
        weights: the full-precision network with the numbers that the format stores.
        computed: with the inputs of its products rounded as well, as its program does.
    """

    name: str
    family: str
    stored: Stored
    weights: Callable[[], Logits]
    computed: Callable[[], Logits]


@dataclass(frozen=True)
class Measured:
    name: str
    family: str
    bits: Bits
    weights: Sequence[Differences]
    computed: Sequence[Differences]


def ours(name: str, path: Path, checkpoint: Checkpoint, threads: int | None) -> Subject:
    """An artifact: as the runtime really computes it on this machine."""
    artifact = Artifact.open(path)
    config = artifact.manifest.config
    vocabulary = (path / "tokenizer.json").stat().st_size
    stored = of_formats(artifact.manifest.recipe.targets["cpu"], artifact.size - vocabulary, config)
    return Subject(
        name,
        OURS,
        stored,
        lambda: _network(checkpoint, read_artifact(artifact)),
        lambda: of_artifact(artifact, threads),
    )


def with_eight_bit_rows(path: Path, checkpoint: Checkpoint) -> Logits:
    """An int8 artifact as processors with VNNI compute it; others leave one bit of the activations unused."""
    return _network(checkpoint, read_artifact(Artifact.open(path)), dict.fromkeys(products(checkpoint), by_row))


def gguf(name: str, path: Path, checkpoint: Checkpoint) -> Subject:
    """One of llama.cpp's: activations are rounded as its kernels for processors do."""
    read = read_gguf(path)
    roundings = {product: of_gguf_type(read.types[f"{product}.weight"]) for product in products(checkpoint)}
    return Subject(
        name,
        LLAMA_CPP,
        of_tensors(read.sizes, read.file, checkpoint.config),
        lambda: _network(checkpoint, read_gguf(path).tensors),
        lambda: _network(checkpoint, read_gguf(path).tensors, roundings),
    )


def bitsandbytes(checkpoint: Checkpoint) -> Iterator[Subject]:
    """Two kinds of NF4, whose activations stay as they are, and LLM.int8, which rounds them by row on GPUs."""
    config, shapes = checkpoint.config, matrix_shapes(checkpoint.config)
    names = body_names(config)

    def changed(change: Callable[[Tensor], Tensor], roundings: Mapping[str, Rounding] | None = None) -> Logits:
        tensors = {f"{name}.weight": change(checkpoint.tensor(f"{name}.weight")) for name in names}
        return _network(checkpoint, tensors, roundings)

    for name, bits, nested in (("NF4", NF4_BITS, False), ("NF4 double", NF4_NESTED_BITS, True)):
        model = partial(changed, partial(nf4, nested=nested))
        yield Subject(name, BITSANDBYTES, of_bits(bits, 16, config), model, model)
    body = sum(int8_bits(inputs) * outputs * inputs for outputs, inputs in (shapes[name] for name in names))
    rows = dict.fromkeys(names, lambda x: by_row(x, THRESHOLD))
    stored = of_bits(body / body_count(config), 16, config)
    yield Subject("LLM.int8", BITSANDBYTES, stored, lambda: changed(int8), lambda: changed(int8, rows))


def products(checkpoint: Checkpoint) -> list[str]:
    """Every matrix that is multiplied."""
    return [name for name in matrix_shapes(checkpoint.config) if name != EMBEDDING]


def _network(
    checkpoint: Checkpoint, tensors: Mapping[str, Tensor], roundings: Mapping[str, Rounding | None] | None = None
) -> Logits:
    network = load_reference(checkpoint)
    network.load_state_dict({**network.state_dict(), **tensors}, strict=True, assign=True)
    round_inputs(network, roundings or {})
    return of_network(network.eval().requires_grad_(False))
