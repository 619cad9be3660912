"""Size against loss, one curve a family; ours is the frontier of our points."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .table import Point, frontier

COLOURS = {"dream-edge": "#0b6e4f", "llama.cpp": "#c1440e", "bitsandbytes": "#5a4fcf"}
MARKS = {"dream-edge": "o", "llama.cpp": "s", "bitsandbytes": "^"}


def plot(path: Path, panels: Sequence[tuple[str, str, Sequence[Point]]]) -> None:
    """`panels` are (title, label of the loss, points); side by side in one picture, format by the ending of `path`."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2 * len(panels), 4.4), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    with mpl.rc_context({"font.size": 9, "svg.hashsalt": "dream-edge", "svg.fonttype": "path"}):
        for axis, (title, label, points) in zip(axes, panels, strict=True):
            for family, colour in COLOURS.items():
                members = sorted((each for each in points if each.family == family), key=lambda each: each.bits)
                bits, losses = [each.bits for each in members], [each.loss for each in members]
                errors = [each.error for each in members]
                axis.errorbar(
                    bits, losses, errors, fmt=MARKS[family], color=colour, ms=5, lw=1, label=family, capsize=2
                )
                edge = frontier(members)
                axis.plot([each.bits for each in edge], [each.loss for each in edge], color=colour, lw=1, alpha=0.6)
                for each in edge:  # names of all would hide each other; slanted, and ours below, they hide less
                    below = family == "dream-edge"
                    axis.annotate(
                        each.name,
                        (each.bits, each.loss),
                        (-4, -4) if below else (4, 4),
                        textcoords="offset points",
                        ha="right" if below else "left",
                        va="top" if below else "bottom",
                        rotation=35,
                        rotation_mode="anchor",
                        fontsize=7,
                        color=colour,
                    )
            axis.margins(x=0.26, y=0.14)
            axis.set(title=title, xlabel="bits per weight", ylabel=label, yscale="log")
            axis.grid(alpha=0.25, which="both", lw=0.5)
            axis.spines[["top", "right"]].set_visible(False)
        axes[0].legend(frameon=False, loc="lower left")
        figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)
