"""Artifacts against the network they were made from: what `dream-edge compare` calls."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from dream_edge_runtime.artifact import Artifact
from dream_edge_runtime.errors import InvalidOption
from dream_edge_runtime.progress import OnProgress, silent
from dream_edge_runtime.units import number, size

from .models import load, open_artifact, open_checkpoint
from .quality.comparison import Comparison, check_same_model, compare_artifact
from .quality.extras import Extras
from .quality.reference.base import Base
from .quality.reference.build import BasePlan, build_base
from .quality.report.output import Output
from .quality.tasks import TaskScores, check_task_options, compare_tasks, reference_model, score_tasks, usual_shots
from .quality.texts.masking import draw_evaluation
from .quality.texts.read import Text, Texts, gather_texts
from .quality.trajectory.follow import is_held

if TYPE_CHECKING:
    from dream_edge_export.checkpoint.checkpoint import Checkpoint
    from dream_edge_runtime.model import DreamModel

_PURPOSE = "Comparing with the full-precision network"

_log = logging.getLogger(__name__)


def compare(
    artifacts: str | Path | Sequence[str | Path],
    *,
    reference: str | Path | None = None,
    base: str | Path | None = None,
    save_base: str | Path | None = None,
    data: Texts | None = None,
    sequences: int | None = None,
    longest: int | None = None,
    bins: int | None = None,
    seed: int | None = None,
    tasks: Sequence[str] = (),
    cases: int = 100,
    shots: int | None = None,
    noise_floor: bool | None = None,
    trajectory: bool | None = None,
    algorithms: Sequence[str] = (),
    steps: Sequence[int] = (),
    texts: int | None = None,
    new_tokens: int | None = None,
    report: str | Path | None = None,
    sensitivity: str | Path | None = None,
    update_card: bool = False,
    threads: int | None = None,
    progress: OnProgress = silent,
) -> tuple[Comparison, ...]:
    """Measure what quantization cost each of `artifacts`, on masked texts.

    The full-precision network is evaluated layer by layer, so that it need not fit into memory; this needs PyTorch.
    What it predicts can be kept in a file (`save_base`), with which (`base`) later comparisons need neither it nor
    PyTorch. What is going to be computed and where it is written is logged (level INFO).

    Args:
        artifacts: one or more: directories, names on a hub, or "tiny".
        reference: the checkpoint that they were exported from: its directory, its name on a hub, or "tiny".
        base: a file of reference predictions that `save_base` kept.
        save_base: keep the reference predictions in this file; an interrupted call resumes there.
        data: texts to mask, or files of them; None = built-in ones.
        sequences: masked texts to measure; None = 128.
        longest: tokens to which texts are cut; None = 512.
        bins: intervals of mask ratios; None = 5.
        seed: for the masks and the order of the texts; None = 0.
        tasks: puzzles that all have to solve, "sudoku" and "countdown"; this needs `reference`.
        cases: puzzles of each kind.
        shots: solved examples before each; None = 8 as in Dream's own evaluation, and 0 for the tiny model.
        noise_floor: measure the reference in bf16 too, which takes as long again as its predictions; None = with new
            predictions.
        trajectory: measure what flips along the reference's own decoding; None = if it is small, or kept in `base`.
        algorithms, steps: how the reference decodes, each of one with each of the other; none = the checkpoint's
            algorithm, one step a token.
        texts, new_tokens: texts to decode and tokens of each at most; None = 32.
        report: a directory for a report for people: one HTML page with pictures, Markdown and JSON.
        sensitivity: the file that `dream_edge.sensitivity` kept, to be shown in the report.
        update_card: write a summary into each artifact's README.md.
        threads: for an artifact's passes; None = one for each core that this process may use.
        progress: told of downloads in bytes, of the reference in layers, of comparing in passes, of tasks in cases.

    Returns: one `Comparison` for each artifact, in their order.

    Raises:
        InvalidOption: an option has no such value, or contradicts another.
        ArtifactError, ArtifactNotFound, HubError: an artifact is damaged, not there, or cannot be fetched.
        CheckpointError, CheckpointNotFound: the checkpoint is.
        CompareError: models do not match, there is no text, or predictions or a report cannot be read or written.
        MissingExtra: what this takes is not installed.
    """
    drawn = {"sequences": sequences, "longest": longest, "bins": bins, "seed": seed}
    given = {name: value for name, value in drawn.items() if value is not None}
    extras = Extras(
        noise_floor=noise_floor,
        trajectory=trajectory,
        algorithms=algorithms,
        steps=steps,
        texts=texts,
        new_tokens=new_tokens,
    )
    names = [artifacts] if isinstance(artifacts, str | Path) else artifacts
    if not names:
        raise InvalidOption("artifacts", names, "must name at least one")
    _check_sources(reference, base, save_base, data, given)
    check_task_options(tasks, cases, shots)
    if tasks and reference is None:
        raise InvalidOption("tasks", ",".join(tasks), "needs the reference, which solves them too: name the checkpoint")
    output = Output.check(report, sensitivity=sensitivity, update_card=update_card)
    opened = [open_artifact(name, progress=progress) for name in names]
    found = None if data is None else gather_texts(data)
    checkpoint = None if reference is None else _open_reference(reference, opened[0], progress)
    with _obtain_base(opened, checkpoint, base, save_base, found, given, progress) as kept:
        kept = extras.add(
            kept, checkpoint, is_new=base is None, tokenizer=opened[0].tokenizer(), data=found, progress=progress
        )
        recorded = () if trajectory is False else None
        comparisons = tuple(
            compare_artifact(artifact, kept, recorded=recorded, threads=threads, progress=progress)
            for artifact in opened
        )
        if tasks and checkpoint is not None:
            comparisons = _add_task_scores(comparisons, opened, checkpoint, tasks, cases, shots, threads, progress)
    output.write(opened, comparisons, kept.name)
    return comparisons


def _open_reference(reference: str | Path, artifact: Artifact, progress: OnProgress) -> Checkpoint:
    """What its files leave open, the artifact of it says."""
    config = artifact.manifest.config
    mask = artifact.tokenizer().token_text(config.mask_token_id)
    try:
        return open_checkpoint(
            reference, _PURPOSE, attention=config.attention, shift=config.shift, mask_token=mask, progress=progress
        )
    except InvalidOption:  # it contradicts the files: the artifact is another checkpoint's, as is said of it then
        return open_checkpoint(reference, _PURPOSE, progress=progress)


def _check_sources(
    reference: str | Path | None,
    base: str | Path | None,
    save_base: str | Path | None,
    data: Texts | None,
    drawn: Mapping[str, int],
) -> None:
    if base is None:
        if reference is None:
            raise InvalidOption("reference", None, "must name the checkpoint, unless --base names a file made from it")
        return
    settled: dict[str, object] = {**drawn}
    if data:
        settled["data"] = str(data) if isinstance(data, str | Path) else f"{len(data)} given"
    for name, value in settled.items():
        raise InvalidOption(
            name, value, "cannot be chosen with --base, which holds the texts and their masks: leave it out"
        )
    if save_base is not None:
        raise InvalidOption("save_base", str(save_base), "contradicts --base: name one of them")


@contextmanager
def _obtain_base(
    artifacts: Sequence[Artifact],
    checkpoint: Checkpoint | None,
    base: str | Path | None,
    save_base: str | Path | None,
    texts: Sequence[Text] | None,
    drawn: Mapping[str, int],
    progress: OnProgress,
) -> Iterator[Base]:
    """The reference predictions, opened or made. Raises MismatchedModels before anything is computed."""
    if base is not None:
        opened = Base.open(Path(base))
        if checkpoint is not None:
            opened.check(checkpoint)
        for artifact in artifacts:
            check_same_model(artifact, opened.config, opened.name)
        yield opened
    elif checkpoint is not None:
        for artifact in artifacts:
            check_same_model(artifact, checkpoint.config, checkpoint.path)
        evaluation = draw_evaluation(checkpoint, data=texts, **drawn)
        with TemporaryDirectory(prefix="dream-edge-") as directory:
            path = Path(directory) / "base" if save_base is None else Path(save_base)
            plan = BasePlan(checkpoint, evaluation)
            if not plan.is_made(path):
                _announce(plan, path, kept=save_base is not None)
            yield build_base(checkpoint, evaluation, path, progress=progress)


def _announce(plan: BasePlan, path: Path, *, kept: bool) -> None:
    drawn = plan.evaluation
    _log.info(
        "%s: %d masked texts, %s tokens; %d masked positions, whose predictions take %s",
        plan.checkpoint.path,
        len(drawn.passages),
        number(drawn.tokens),
        drawn.rows,
        size(plan.file_bytes),
    )
    place = path if kept else f"a temporary file in {path.parent} (--save-base FILE keeps it)"
    _log.info("Writing them to %s; meanwhile %s are needed there", place, size(plan.working_bytes))


def _add_task_scores(
    comparisons: Sequence[Comparison],
    artifacts: Sequence[Artifact],
    checkpoint: Checkpoint,
    tasks: Sequence[str],
    cases: int,
    shots: int | None,
    threads: int | None,
    progress: OnProgress,
) -> tuple[Comparison, ...]:
    """The comparisons with the scores of `artifacts` beside those of `checkpoint` in full precision."""
    shown = usual_shots(checkpoint) if shots is None else shots

    def score(model: DreamModel, name: str, *, together: bool = False) -> TaskScores:
        return score_tasks(model, name, tasks=tasks, cases=cases, shots=shown, together=together, progress=progress)

    reference = score(reference_model(checkpoint), checkpoint.path.name, together=not is_held(checkpoint))
    return tuple(
        replace(
            comparison, tasks=compare_tasks(reference, score(load(artifact.path, threads=threads), artifact.path.name))
        )
        for comparison, artifact in zip(comparisons, artifacts, strict=True)
    )
