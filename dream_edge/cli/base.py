"""Where a verb gets the full-precision predictions it compares with: from a base file, or from a checkpoint."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import typer

from dream_edge_runtime.units import number, size

from .terminal.io import note
from .terminal.progress import progress

if TYPE_CHECKING:
    from dream_edge.quality import Base, BasePlan
    from dream_edge_export.checkpoint.checkpoint import Checkpoint
    from dream_edge_runtime.artifact import Artifact

_PURPOSE = "Comparing with the full-precision network"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What was asked for on the command line; None where nothing was."""

    reference: str | None
    base: Path | None
    save_base: Path | None
    data: Sequence[Path]
    sequences: int | None
    longest: int | None
    bins: int | None
    seed: int | None

    def __post_init__(self) -> None:
        """Raises typer.BadParameter where options contradict each other."""
        if self.base is None:
            if self.reference is None:
                raise typer.BadParameter("name the checkpoint (--reference) or a file made from it (--base)")
            return
        given = [*self.drawn(), *["data"] * bool(self.data)]
        if given:
            raise typer.BadParameter("the base holds the texts and their masks already", param_hint=f"--{given[0]}")
        if self.save_base is not None:
            raise typer.BadParameter("contradicts --base: name one of them", param_hint="--save-base")

    def drawn(self) -> dict[str, int]:
        """How passages are to be masked, as far as it was said."""
        said = {name: getattr(self, name) for name in ("sequences", "longest", "bins", "seed")}
        return {name: value for name, value in said.items() if value is not None}


@contextmanager
def obtain_base(asked: Asked, artifacts: Sequence[Artifact]) -> Iterator[tuple[Base, Checkpoint | None]]:
    """The base that was asked for, opened or made, and the checkpoint where one was named; progress is shown.

    Raises MismatchedModels before anything is computed unless it is of all `artifacts`.
    """
    from dream_edge.models import open_checkpoint
    from dream_edge.quality import check_same_model

    checkpoint = None if asked.reference is None else open_checkpoint(asked.reference, _PURPOSE)
    if asked.base is not None:
        base = _opened(asked.base, checkpoint)
        for artifact in artifacts:
            check_same_model(artifact, base.config, base.name)
        yield base, checkpoint
    elif checkpoint is not None:
        for artifact in artifacts:
            check_same_model(artifact, checkpoint.config, checkpoint.path)
        with _made(asked, checkpoint) as base:
            yield base, checkpoint


def _opened(path: Path, checkpoint: Checkpoint | None) -> Base:
    from dream_edge.quality import Base

    base = Base.open(path)
    if checkpoint is not None:
        base.check(checkpoint)
    return base


@contextmanager
def _made(asked: Asked, checkpoint: Checkpoint) -> Iterator[Base]:
    from dream_edge.quality import BasePlan, build_base, evaluation_for, read_texts
    from dream_edge.quality.reference.build import working_directory

    texts = [text for path in asked.data for text in read_texts(path)] if asked.data else None
    plan = BasePlan(checkpoint, evaluation_for(checkpoint, data=texts, **asked.drawn()))
    with ExitStack() as stack:
        path = asked.save_base
        if path is None:
            path = Path(stack.enter_context(TemporaryDirectory(prefix="dream-edge-"))) / "base"
        if not plan.is_made(path):
            _announce(plan, path, kept=asked.save_base is not None)
        try:
            with progress("Full precision, layers", plan.work, lambda done: f"{done:.1f}") as advance:
                base = build_base(checkpoint, plan.evaluation, path, progress=lambda done, _: advance(done))
        except BaseException:
            if asked.save_base is not None and (working := working_directory(path)).is_dir():
                note("What is finished is kept: the same command goes on there. To give it up, remove it:")
                note(f"  {shlex.join(['rm', '-r', str(working)])}")
            raise
        yield base


def _announce(plan: BasePlan, path: Path, *, kept: bool) -> None:
    """Say what is going to be computed and written."""
    drawn = plan.evaluation
    note(
        f"{plan.checkpoint.path}: {len(drawn.passages)} masked texts, {number(drawn.tokens)} tokens; "
        f"{drawn.rows} masked positions, whose predictions take {size(plan.file_bytes)}"
    )
    place = f"{path}" if kept else f"a temporary file in {path.parent} (--save-base FILE keeps it)"
    note(f"Writing them to {place}; meanwhile {size(plan.working_bytes)} are needed there")
