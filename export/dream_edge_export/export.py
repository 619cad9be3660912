"""From checkpoint to artifact: read, quantize, write the graph, and put it in place in one step."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx_ir as ir
import torch

from dream_edge_runtime.artifact import CARD, TOKENIZER, Artifact
from dream_edge_runtime.config import ModelConfig
from dream_edge_runtime.contract import PRODUCER, TensorSpec, matrix_specs
from dream_edge_runtime.errors import DreamEdgeError, OutputExists, OutputForeign, OutputNotWritable
from dream_edge_runtime.manifest import MANIFEST, FileEntry, Manifest
from dream_edge_runtime.recipe import (
    EMBEDDING,
    Recipe,
    Target,
    WeightFormat,
    matrix_shapes,
    parameter_count,
    vector_sizes,
)

from .card import model_card
from .checkpoint import Checkpoint
from .graph import build_model, weight_parameters
from .quantize import encode_embedding, encode_linear
from .tokenizer import convert_tokenizer
from .weights import WeightWriter

_OURS = re.compile(r"manifest\.json|tokenizer\.json|README\.md|model_\w+\.onnx|weights-\d{5}\.bin")


@dataclass(frozen=True)
class ExportProgress:
    """Weights of the checkpoint done so far, of how many, and the tensor that was last written."""

    done: int
    total: int
    tensor: str


def export(
    checkpoint: Checkpoint,
    out: Path,
    recipe: Recipe,
    *,
    force: bool = False,
    progress: Callable[[ExportProgress], None] = lambda _: None,
) -> Artifact:
    """Write the artifact of `checkpoint` in directory `out`; the same input gives the same bytes.

    The artifact is built beside `out` and renamed when it is whole, so that an interrupted export leaves nothing that
    loads. With `force` an existing artifact is replaced, but only then.

    Raises:
        OutputExists: `out` is there and `force` is not set.
        OutputForeign: `out` holds other files than an artifact's, which nobody asked to remove.
        OutputNotWritable: the disk is full or the place is read-only.
        CheckpointError: a tensor is damaged.
    """
    out = out.absolute()
    if _occupied(out):
        if not force:
            raise OutputExists(out)
        if not _is_artifact(out):
            raise OutputForeign(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with _staging(out) as staging:
            _write_artifact(checkpoint, staging, recipe, progress)
            artifact = Artifact.open(staging)
            _put_in_place(staging, out)
    except OSError as error:
        if isinstance(error, DreamEdgeError):
            raise
        raise OutputNotWritable(out, error.strerror or str(error)) from error
    return replace(artifact, path=out)


def _write_artifact(
    checkpoint: Checkpoint, directory: Path, recipe: Recipe, progress: Callable[[ExportProgress], None]
) -> None:
    config = checkpoint.config
    tokenizer = convert_tokenizer(checkpoint.path, config)  # first: it fails fast
    recipe.check(config)
    with WeightWriter(directory) as writer:
        stored = _write_weights(checkpoint, recipe, writer, progress)
    graphs: dict[Target, str] = {target: f"model_{target}.onnx" for target in recipe.targets}
    manifest = Manifest(
        producer=f"{PRODUCER} {_version()}",
        files=tuple(writer.files),
        graphs=graphs,
        config=config,
        recipe=recipe,
        generation=checkpoint.generation_defaults,
        provenance=_provenance(checkpoint),
        license=_license(checkpoint.path),
    )
    contents = {name: _graph(config, recipe, target, stored) for target, name in graphs.items()}
    contents |= {TOKENIZER: tokenizer, CARD: model_card(manifest).encode()}
    written = [_write_file(directory / name, data) for name, data in contents.items()]
    _write_file(directory / MANIFEST, replace(manifest, files=(*writer.files, *written)).to_json())


_Stored = dict[tuple[str, WeightFormat | None], ir.ExternalTensor]
"""Where each tensor lies, by its name and the format of its matrix, if it is of one."""


def _graph(config: ModelConfig, recipe: Recipe, target: Target, stored: _Stored) -> bytes:
    formats = recipe.targets[target]
    model = build_model(config, formats, target)
    for name, value in weight_parameters(model).items():
        matrix = name.rpartition(".")[0]
        format_ = None if name in vector_sizes(config) else formats.of(matrix)
        value.const_value = stored[name, format_]
    data: bytes = ir.to_proto(model).SerializeToString(deterministic=True)
    return data


def _write_weights(
    checkpoint: Checkpoint, recipe: Recipe, writer: WeightWriter, progress: Callable[[ExportProgress], None]
) -> _Stored:
    """Matrices in the order data meets them, one in memory at a time; then biases and norms."""
    config = checkpoint.config
    shapes, total, done = matrix_shapes(config), parameter_count(config), 0
    stored: _Stored = {}
    for name, format_ in recipe.stored_matrices(config):
        weight = checkpoint.tensor(f"{name}.weight")
        encode = encode_embedding if name == EMBEDDING else encode_linear
        arrays = encode(weight, format_)
        for spec in matrix_specs(name, shapes[name], format_):
            stored[spec.name, format_] = writer.write(spec, arrays[spec.name.rpartition(".")[2]])
        done += weight.numel()
        progress(ExportProgress(done, total, name))
    for name, size in vector_sizes(config).items():
        array = checkpoint.tensor(name).to(torch.float32).numpy()
        stored[name, None] = writer.write(TensorSpec(name, "float32", (size,)), array)
        done += size
        progress(ExportProgress(done, total, name))
    return stored


def _write_file(path: Path, data: bytes) -> FileEntry:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return FileEntry(path.name, len(data), hashlib.sha256(data).hexdigest())


def _provenance(checkpoint: Checkpoint) -> dict[str, Any]:
    """What the weights came from, wherever it lay: the same checkpoint gives the same bytes in any directory."""
    return {
        "config_sha256": hashlib.sha256((checkpoint.path / "config.json").read_bytes()).hexdigest(),
        "dtype": str(checkpoint.dtype).removeprefix("torch."),
        "weights": {file.name: file.stat().st_size for file in checkpoint.files},
    }


def _license(checkpoint_dir: Path) -> str | None:
    """The licence that the checkpoint's model card names in its metadata block."""
    try:
        card = (checkpoint_dir / CARD).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
    metadata = re.match(r"---\n(.*?)\n---", card, re.DOTALL)
    found = re.search(r"^license:[ \t]*[\"']?([\w.\-]+)", metadata.group(1), re.MULTILINE) if metadata else None
    return found.group(1) if found else None


def _version() -> str:
    from importlib.metadata import version

    return version("dream-edge")


# --- putting it in place ---------------------------------------------------------------------------------------------


@contextmanager
def _staging(out: Path) -> Iterator[Path]:
    """A directory beside `out`, gone again when the export fails."""
    staging = out.with_name(f".{out.name}-{secrets.token_hex(4)}.partial")
    staging.mkdir()
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _put_in_place(staging: Path, out: Path) -> None:
    """Rename `staging` to `out`; an old artifact there is moved aside first and removed last."""
    if not _occupied(out):
        if out.exists():
            out.rmdir()
        staging.rename(out)
        return
    old = staging.with_suffix(".old")
    out.rename(old)
    try:
        staging.rename(out)
    except OSError:
        old.rename(out)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _occupied(out: Path) -> bool:
    return out.is_symlink() or out.is_file() or (out.is_dir() and any(out.iterdir()))


def _is_artifact(out: Path) -> bool:
    """Whether `out` holds a manifest and a graph, and nothing but files that an export writes."""
    if not out.is_dir() or out.is_symlink():
        return False
    entries = list(out.iterdir())
    return (
        (out / MANIFEST).is_file()
        and any(entry.suffix == ".onnx" for entry in entries)
        and all(entry.is_file() and _OURS.fullmatch(entry.name) for entry in entries)
    )
