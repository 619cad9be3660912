"""Several schemes of one checkpoint, compared, and the one to take: what `dream-edge sweep` calls."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dream_edge_runtime.artifact import Artifact
from dream_edge_runtime.errors import InvalidOption
from dream_edge_runtime.format.manifest import MANIFEST
from dream_edge_runtime.format.recipe import Recipe
from dream_edge_runtime.generation.option import Integer
from dream_edge_runtime.graph.onnx_writer import PRODUCER
from dream_edge_runtime.host import free_memory, installed_version
from dream_edge_runtime.progress import OnProgress, silent

from .comparing import compare
from .hub import source
from .models import open_checkpoint
from .quality.report.contents import Advice, ReportEntry, advise
from .quality.report.output import Output
from .quality.texts.read import Texts

if TYPE_CHECKING:
    from dream_edge_export.checkpoint.checkpoint import Checkpoint

SCHEMES = ("int8", "int4", "mixed", "nf4")
BASE = "base"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Artifacts of one checkpoint in several schemes, what each costs and takes, and which to take.

    `advice` is None where no memory was named and the machine does not say what is free.
    """

    entries: tuple[ReportEntry, ...]
    advice: Advice | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "comparisons": [entry.comparison.to_dict() for entry in self.entries],
            "recommended": None if self.advice is None else self.advice.chosen,
            "needed_bytes": {} if self.advice is None else dict(self.advice.needed),
        }


def sweep(
    checkpoint: str | Path,
    *,
    schemes: Sequence[str] = SCHEMES,
    out: str | Path | None = None,
    memory: int | None = None,
    data: Texts | None = None,
    sequences: int | None = None,
    longest: int | None = None,
    seed: int | None = None,
    trajectory: bool | None = None,
    report: str | Path | None = None,
    threads: int | None = None,
    attention: str | None = None,
    shift: int | None = None,
    mask_token: str | None = None,
    force: bool = False,
    progress: OnProgress = silent,
) -> Sweep:
    """Export a checkpoint in several schemes, compare the artifacts, and recommend one.

    Everything is kept in directory `out`: the artifacts, and the reference predictions. The same call resumes where an
    earlier one stopped, and leaves alone what is whole.

    Args:
        checkpoint: its directory, its name on a hub, or "tiny".
        schemes: to try; "int4-32" is int4 in groups of 32, and so on.
        out: None = the name of the checkpoint and "-sweep", here.
        memory: bytes for which one is recommended; None = what is free now.
        data, sequences, longest, seed, trajectory, report, threads: see `dream_edge.compare`.
        attention, shift, mask_token: what the checkpoint's files leave open: "full" or "block-causal:32"; 0 or 1; the
            text of the token. None = as they say.
        force: replace artifacts in `out` that were made otherwise.
        progress: told of exporting in bytes, and of what `dream_edge.compare` tells.

    Raises: what `dream_edge.compare` and the export raise.
    """
    names = list(dict.fromkeys(each.strip() for each in schemes))
    if not names:
        raise InvalidOption("schemes", schemes, "must name at least one")
    if memory is not None:
        Integer(1).convert("memory", memory)
    for name in names:
        name_to_recipe(name, 1)  # refuses bad names before a checkpoint is downloaded
    output = Output.check(report)
    opened = open_checkpoint(
        checkpoint, "Exporting a checkpoint", attention=attention, shift=shift, mask_token=mask_token, progress=progress
    )
    directory = Path(f"{opened.path.name}-sweep") if out is None else Path(out)
    config = opened.config
    recipes = {name: name_to_recipe(name, config.num_hidden_layers).fit(config) for name in names}
    artifacts = [
        _export(opened, directory / name, recipe, force=force, progress=progress) for name, recipe in recipes.items()
    ]
    comparisons = compare(
        [artifact.path for artifact in artifacts],
        reference=opened.path,
        save_base=directory / BASE,
        data=data,
        sequences=sequences,
        longest=longest,
        seed=seed,
        trajectory=trajectory,
        threads=threads,
        progress=progress,
    )
    entries = tuple(map(ReportEntry.of, artifacts, comparisons))
    available = free_memory() if memory is None else memory
    advice = advise(entries, available) if available else None
    output.write(artifacts, comparisons, opened.path.resolve().name, advice)
    return Sweep(entries=entries, advice=advice)


def name_to_recipe(name: str, layers: int) -> Recipe:
    """The recipe called e.g. "int8" or "int4-32", for a network of that many layers. Raises InvalidOption."""
    scheme, _, block = name.partition("-")
    if block.isdecimal():
        return Recipe.for_scheme(scheme, block_size=int(block), layers=layers)
    return Recipe.for_scheme(name, layers=layers)


def _export(checkpoint: Checkpoint, out: Path, recipe: Recipe, *, force: bool, progress: OnProgress) -> Artifact:
    """The artifact at `out`, made unless one of the same checkpoint, recipe and release is there."""
    from dream_edge_export.checkpoint.provenance import describe_origin
    from dream_edge_export.export import export

    origin = source(checkpoint.path)
    if (out / MANIFEST).is_file():
        artifact = Artifact.open(out)
        made = artifact.manifest
        wanted = (checkpoint.config, recipe, describe_origin(checkpoint, origin), f"{PRODUCER} {installed_version()}")
        if (made.config, made.recipe, dict(made.provenance), made.producer) == wanted:
            _log.info("%s is there already", out)
            return artifact
    return export(checkpoint, out, recipe, force=force, source=origin, progress=progress)
