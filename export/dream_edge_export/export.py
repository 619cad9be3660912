"""From checkpoint to artifact: plan, check, read, quantize, write, and put it in place in one step."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from dream_edge_runtime.artifact import CARD, TOKENIZER, Artifact
from dream_edge_runtime.errors import CheckpointChanged, NonFiniteWeights
from dream_edge_runtime.files.writing import check_disk, explain_write_errors, write_file
from dream_edge_runtime.format.layout import Weight, tensor_bytes
from dream_edge_runtime.format.manifest import MANIFEST, FileEntry, Manifest
from dream_edge_runtime.format.recipe import Recipe, Target
from dream_edge_runtime.graph.model import GRAPH_REVISION, derive_graph
from dream_edge_runtime.graph.onnx_writer import PRODUCER
from dream_edge_runtime.progress import OnProgress, Progress, silent

from .announcement import announce, tell_what_is_kept
from .card import model_card
from .checkpoint.checkpoint import Checkpoint
from .checkpoint.provenance import licence, provenance, version
from .checkpoint.tokenizer import convert_tokenizer
from .journal import Journal
from .plan import DISK_REMEDY, ExportPlan, check_memory, check_output
from .quantize.calibrate import Calibrated, CalibrationSet, Store, calibrate
from .quantize.weights import Part, encoded, encoders
from .shards import ShardsDiffer, WeightWriter
from .staging import Staging, goal, staging

JOURNAL_EVERY = 64 << 20
"""Bytes between two lines of the journal: what a power cut costs at most, besides the matrix that was being written."""

_MANIFEST_ROOM = 1 << 16


Encode = Callable[[Weight, Executor], Iterator[Part]]


def export(
    checkpoint: Checkpoint,
    out: Path,
    recipe: Recipe,
    *,
    calibration: CalibrationSet | None = None,
    force: bool = False,
    source: Mapping[str, str] | None = None,
    chosen_by: Mapping[str, Any] | None = None,
    progress: OnProgress = silent,
) -> Artifact:
    """Write the artifact of `checkpoint` in directory `out`; the same input gives the same bytes.

    With a `calibration` the weights of the layers are chosen by GPTQ on its sequences, which takes hours for a 7B;
    without, they are rounded to nearest. Calibrated bytes are the same as long as PyTorch has as many threads.

    The artifact is built beside `out` and renamed when it is whole, so that an interrupted export leaves nothing that
    loads. What it had finished is kept (`staging_of` says where), and the same call goes on there. With `force` an
    existing artifact is replaced, but only then. `source` is kept in the manifest: the repository and the commit that
    the checkpoint was pulled from; and `chosen_by`: what the recipe was chosen by, where that was not its scheme alone.
    `progress` is told layers of calibrating and then bytes of the checkpoint read for exporting.

    Raises:
        InvalidOption: the recipe does not fit the checkpoint, or the calibration the recipe.
        OutputExists: `out` is there and `force` is not set.
        OutputForeign: `out` holds other files than an artifact's, which nobody asked to remove.
        OutputInsideCheckpoint: `out` lies in the checkpoint's directory.
        OutputBusy: another export is writing there.
        NotWritable: the disk fails or the place is read-only.
        NotEnoughDisk, NotEnoughMemory: known before anything is written.
        CheckpointError: a tensor is damaged, or a file changed meanwhile.
    """
    named, out = out, goal(out)
    plan = ExportPlan.of(checkpoint, recipe, calibration)
    with explain_write_errors(out):
        check_output(checkpoint, out, force=force)
        check_memory(plan.memory)
        documents = _documents(plan, source, chosen_by)
        announce(plan, named)
        with tell_what_is_kept(plan, named), staging(out) as place:
            check_output(checkpoint, out, force=force)  # once more: an old artifact may have been put back
            try:
                _fill(place, plan, documents, progress)
            except (CheckpointChanged, NonFiniteWeights):
                place.is_resumable = False  # nothing of it can be used
                raise
            artifact = Artifact.open(place.artifact)
            place.put_in_place()
    return replace(artifact, path=named.absolute())


@dataclass(frozen=True)
class _Documents:
    """Everything but the weights; of the manifest only the digests are missing, which need the weights."""

    manifest: Manifest
    files: dict[str, bytes]
    card: bytes

    @property
    def size(self) -> int:
        return sum(map(len, self.files.values())) + len(self.card) + _MANIFEST_ROOM


def _documents(plan: ExportPlan, source: Mapping[str, str] | None, chosen_by: Mapping[str, Any] | None) -> _Documents:
    checkpoint, config = plan.checkpoint, plan.checkpoint.config
    tokenizer = convert_tokenizer(checkpoint.path, config)  # first: it fails fast
    graphs: dict[Target, str] = {target: f"model_{target}.onnx" for target in plan.recipe.targets}
    manifest = Manifest(
        producer=f"{PRODUCER} {version()}",
        files=tuple(FileEntry(name, size, "") for name, size in plan.layout.sizes().items()),
        graphs=graphs,
        graph_revision=GRAPH_REVISION,
        config=config,
        recipe=plan.recipe,
        generation=checkpoint.generation_defaults,
        provenance=provenance(checkpoint, source, chosen_by),
        license=licence(checkpoint.path),
    )
    files = {name: derive_graph(config, plan.recipe, target) for target, name in graphs.items()}
    return _Documents(manifest, {**files, TOKENIZER: tokenizer}, model_card(manifest).encode())


# --- the weights -----------------------------------------------------------------------------------------------------


def _fill(
    place: Staging,
    plan: ExportPlan,
    documents: _Documents,
    progress: OnProgress,
) -> None:
    """Write all files of the artifact, going on with what an earlier run left; the manifest last."""
    encode: Encode = partial(encoded, plan.checkpoint)
    if plan.calibration is not None:
        encode = _calibrated(place, plan, plan.calibration, progress)
    journal, writer = _continued(place, plan)
    written = sum(plan.layout.sizes(journal.finished.count).values())
    check_disk(place.path, plan.written_bytes - written + documents.size, DISK_REMEDY)
    with journal, writer:
        try:
            _write_weights(place, plan, encode, journal, writer, progress)
        except BaseException:
            with suppress(OSError):
                _record(place, journal, writer)
            raise
        shards = writer.files
    entries = [_write_entry(place.artifact / name, data) for name, data in documents.files.items()]
    write_file(place.artifact / CARD, documents.card)  # not listed: people edit the card of what they publish
    manifest = replace(documents.manifest, files=(*shards, *entries))
    write_file(place.artifact / MANIFEST, manifest.to_json())


def _write_entry(path: Path, data: bytes) -> FileEntry:
    write_file(path, data)
    return FileEntry(path.name, len(data), hashlib.sha256(data).hexdigest())


def _continued(place: Staging, plan: ExportPlan) -> tuple[Journal, WeightWriter]:
    """The journal of this very work and a writer that stands where it ends; both empty if there is none."""
    journal, writer = Journal(place.journal, plan.key), WeightWriter(place.artifact, plan.layout)
    try:
        writer.resume(journal.finished)
    except ShardsDiffer:
        is_sound = False
    else:
        is_sound = journal.finished.count > 0
    if not is_sound:
        place.clear()
        return Journal(place.journal, plan.key), WeightWriter(place.artifact, plan.layout)
    for file in place.artifact.iterdir():
        if file.name not in plan.layout.sizes(journal.finished.count):
            file.unlink()
    return journal, writer


def _calibrated(place: Staging, plan: ExportPlan, calibration: CalibrationSet, progress: OnProgress) -> Encode:
    """The weights as a calibration chooses them, which is done now where an earlier run has not finished it."""
    store = Store.open(place.calibration, plan.key)
    place.is_resumable = True
    check_disk(place.path, plan.calibration_disk - store.stored_bytes, DISK_REMEDY)
    layers = plan.checkpoint.config.num_hidden_layers

    def advance(done: float, layer: str) -> None:
        progress(Progress("calibrating", done, layers, "layers", layer))

    calibrate(plan.checkpoint, plan.recipe, calibration, store, advance)
    return Calibrated(plan.checkpoint, store).encoded


def _write_weights(
    place: Staging, plan: ExportPlan, encode: Encode, journal: Journal, writer: WeightWriter, progress: OnProgress
) -> None:
    total = plan.read_bytes
    done = plan.read_bytes_of(journal.finished.count)
    progress(Progress("exporting", done, total, "bytes"))
    unrecorded = 0
    with encoders() as pool:
        for weight in plan.weights_after(journal.finished.count):
            size, stored, written = plan.checkpoint.nbytes(weight.source), sum(map(tensor_bytes, weight.specs)), 0
            for name, array in encode(weight, pool):
                writer.append(name, array)
                written += array.nbytes
                progress(Progress("exporting", done + size * written // stored, total, "bytes", weight.name))
            writer.mark()
            done += size
            unrecorded += stored
            if unrecorded >= JOURNAL_EVERY:
                _record(place, journal, writer)
                unrecorded = 0
    _record(place, journal, writer)


def _record(place: Staging, journal: Journal, writer: WeightWriter) -> None:
    """Have on the disk what is finished, and then that it is."""
    if writer.finished.count:
        writer.sync()
        journal.record(writer.finished)
        place.is_resumable = True
