"""From checkpoint to artifact: plan, check, read, quantize, write, and put it in place in one step."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from dream_edge_runtime.artifact import CARD, TOKENIZER, Artifact
from dream_edge_runtime.files.writing import check_disk, explain_write_errors, write_file
from dream_edge_runtime.format.layout import tensor_bytes
from dream_edge_runtime.format.manifest import MANIFEST, FileEntry, Manifest
from dream_edge_runtime.format.recipe import Recipe, Target
from dream_edge_runtime.graph.model import GRAPH_REVISION, derive_graph
from dream_edge_runtime.graph.onnx_writer import PRODUCER
from dream_edge_runtime.host import installed_version
from dream_edge_runtime.progress import Meter, OnProgress, Progress, silent

from .announcement import announce, tell_largest_values, tell_what_is_kept
from .card import format_card
from .checkpoint.chat_template import read_chat_format
from .checkpoint.checkpoint import Checkpoint
from .checkpoint.config import read_licence
from .checkpoint.provenance import describe_origin
from .checkpoint.tokenizer import convert_tokenizer
from .errors import CheckpointChanged, NonFiniteWeights
from .output.journal import Journal
from .output.shards import WeightWriter
from .output.staging import Staging, claim_staging, resolve_goal
from .plan import DISK_REMEDY, ExportPlan, check_memory, check_output, plan_export
from .quantize.calibrate import CalibrationSet, Store, calibrate, encode_calibrated
from .quantize.weights import Encode, encode_bundle, encode_weight, open_encoders

JOURNAL_EVERY = 64 << 20
"""Bytes between two lines of the journal: what a power cut costs at most, besides the matrix that was being written."""

_MANIFEST_ROOM = 1 << 16


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
    loads. What it had finished is kept (`locate_staging` says where), and the same call resumes there. With `force` an
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
    named, out = out, resolve_goal(out)
    plan = plan_export(checkpoint, recipe, calibration)
    with explain_write_errors(out):
        check_output(checkpoint, out, force=force)
        check_memory(plan.memory)
        documents = _prepare(plan, source, chosen_by)
        announce(plan, named)
        with tell_what_is_kept(plan, named), claim_staging(out) as place:
            check_output(checkpoint, out, force=force)  # once more: an old artifact may have been put back
            try:
                _Writing(plan, place, progress).write(documents)
            except (CheckpointChanged, NonFiniteWeights):
                place.is_resumable = False  # nothing of it can be used
                raise
            artifact = Artifact.open(place.artifact)
            check_output(checkpoint, out, force=force)  # hours later: files may have come
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


def _prepare(plan: ExportPlan, source: Mapping[str, str] | None, chosen_by: Mapping[str, Any] | None) -> _Documents:
    checkpoint, config = plan.checkpoint, plan.checkpoint.config
    tokenizer = convert_tokenizer(checkpoint.path, config)  # first: it fails fast
    graphs: dict[Target, str] = {target: f"model_{target}.onnx" for target in plan.recipe.targets}
    manifest = Manifest(
        producer=f"{PRODUCER} {installed_version()}",
        files=tuple(FileEntry(name, size, "") for name, size in plan.layout.sizes().items()),
        graphs=graphs,
        graph_revision=GRAPH_REVISION,
        config=config,
        recipe=plan.recipe,
        chat_format=read_chat_format(checkpoint.path),
        generation=checkpoint.generation_defaults,
        provenance=describe_origin(checkpoint, source, chosen_by),
        license=read_licence(checkpoint.path),
    )
    files = {name: derive_graph(config, plan.recipe, target) for target, name in graphs.items()}
    return _Documents(manifest, {**files, TOKENIZER: tokenizer}, format_card(manifest).encode())


# --- what is written -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Writing:
    """Fills the directory of an artifact, resuming after what an earlier run left there."""

    plan: ExportPlan
    place: Staging
    progress: OnProgress

    def write(self, documents: _Documents) -> None:
        """Write all files; the manifest last."""
        plan, directory = self.plan, self.place.artifact
        encode = self._calibrate(plan.calibration) if plan.calibration else partial(encode_weight, plan.checkpoint)
        with self._open() as (journal, writer):
            written = sum(plan.layout.sizes(journal.finished.count).values())
            check_disk(self.place.path, plan.written_bytes - written + documents.size, DISK_REMEDY)
            try:
                self._write_weights(encode, journal, writer)
            except BaseException:
                with suppress(OSError):
                    self._record(journal, writer)
                raise
            shards = writer.files
        entries = [_write_entry(directory / name, data) for name, data in documents.files.items()]
        write_file(directory / CARD, documents.card)  # not listed: people edit the card of what they publish
        manifest = replace(documents.manifest, files=(*shards, *entries))
        if plan.calibration:
            largest = Store(self.place.calibration).largest_values()
            tell_largest_values(largest)
            manifest = replace(manifest, provenance={**manifest.provenance, "largest_values": largest})
        write_file(directory / MANIFEST, manifest.to_json())

    def _calibrate(self, calibration: CalibrationSet) -> Encode:
        """Choose weights by `calibration`, unless an earlier run has; what encodes them."""
        plan, layers = self.plan, self.plan.checkpoint.config.num_hidden_layers
        store = Store.open(self.place.calibration, plan.key)
        self.place.is_resumable = True
        check_disk(self.place.path, plan.calibration_disk - store.stored_bytes, DISK_REMEDY)

        def advance(done: float, layer: str) -> None:
            self.progress(Progress("calibrating", done, layers, "layers", layer))

        calibrate(plan.checkpoint, plan.recipe, calibration, store, advance)
        return partial(encode_calibrated, plan.checkpoint, store)

    @contextmanager
    def _open(self) -> Iterator[tuple[Journal, WeightWriter]]:
        """The journal of this work and a writer that continues it; both empty if nothing sound is left of it."""
        journal, writer = (
            Journal(self.place.journal, self.plan.key),
            WeightWriter(self.place.artifact, self.plan.layout),
        )
        if not writer.resume(journal.finished):
            self.place.clear()
            journal.reset()
        for file in self.place.artifact.iterdir():
            if file.name not in self.plan.layout.sizes(journal.finished.count):
                file.unlink()
        with journal, writer:
            yield journal, writer

    def _write_weights(self, encode: Encode, journal: Journal, writer: WeightWriter) -> None:
        plan, unrecorded = self.plan, 0
        remaining, total = plan.remaining(journal.finished.count), sum(plan.read_bytes)
        done = total - sum(size for _, size in remaining)
        meter = Meter(self.progress, "exporting", total, "bytes", done=done)
        with open_encoders() as pool:
            for bundle, size in remaining:
                stored, written = sum(tensor_bytes(spec) for weight in bundle for spec in weight.specs), 0
                for name, array in encode_bundle(encode, bundle, pool):
                    writer.append(name, array)
                    written += array.nbytes
                    meter.reach(done + size * written // stored, name.rpartition(".")[0])
                writer.mark()
                done += size
                unrecorded += stored
                if unrecorded >= JOURNAL_EVERY:
                    self._record(journal, writer)
                    unrecorded = 0
        self._record(journal, writer)

    def _record(self, journal: Journal, writer: WeightWriter) -> None:
        """Have on the disk what is finished, and then that it is."""
        if writer.finished.count:
            writer.sync()
            journal.record(writer.finished)
            self.place.is_resumable = True


def _write_entry(path: Path, data: bytes) -> FileEntry:
    write_file(path, data)
    return FileEntry(path.name, len(data), hashlib.sha256(data).hexdigest())
