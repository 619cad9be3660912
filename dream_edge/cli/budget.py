"""`dream-edge export --bits`: a mixed recipe by measurement, and the measuring where it was not done before."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from .terminal.io import note

if TYPE_CHECKING:
    from dream_edge_export.checkpoint.checkpoint import Checkpoint
    from dream_edge_runtime.format.recipe import Recipe


def check_budget(
    bits: float | None,
    sensitivity: Path | None,
    *,
    scheme: str,
    target: str,
    block_size: int | None,
    symmetric: bool | None,
) -> None:
    """Raises InvalidOption where a budget and the other options contradict each other."""
    from dream_edge_runtime.errors import InvalidOption

    if bits is None:
        if sensitivity is not None:
            raise InvalidOption(
                "sensitivity", str(sensitivity), "says where to spend bits: give their number with --bits"
            )
        return
    if scheme != "mixed":
        raise InvalidOption("bits", bits, f"belongs to mixed; {scheme} has a size of its own")
    if target != "cpu":
        raise InvalidOption("bits", bits, "is spent by what processors make of each format: use --target cpu")
    if block_size is not None or symmetric is not None:
        raise InvalidOption("bits", bits, "chooses groups by measurement: leave --block-size and --symmetric out")


def recipe_within(
    bits: float, checkpoint: Checkpoint, sensitivity: Path | None, out: Path
) -> tuple[Recipe, dict[str, Any]]:
    """The recipe and its origin, for the manifest."""
    from dream_edge.quality.budget import budget_recipe
    from dream_edge.quality.errors import MeasurementsUnfit
    from dream_edge.quality.sensitivity import Sensitivity
    from dream_edge_export.checkpoint.provenance import fingerprint

    from .sensitivity import measure

    if sensitivity is None:
        path = out.absolute().with_name(f"{out.name}.sensitivity.json")
        note(f"Measuring first which matrices matter, kept in {path}")
        found = measure(checkpoint, out=path)
    else:
        path, found = sensitivity, Sensitivity.read(sensitivity)
        if found.model != fingerprint(checkpoint):
            raise MeasurementsUnfit(path, f"it is of another checkpoint than {checkpoint.path}")
    recipe, chosen_by = budget_recipe(found, checkpoint.config, bits, path)
    note(f"The single losses of the formats chosen add up to a KL of {chosen_by['expected_kl']:g}")
    return recipe, chosen_by
