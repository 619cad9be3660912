"""A picture of sensitivities: layers × matrices, a panel for each format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dream_edge_runtime.errors import InvalidOption, MissingExtra, NotWritable
from dream_edge_runtime.files.writing import explain_write_errors
from dream_edge_runtime.format.tensors import LM_HEAD, layer_matrices

from .effects import Sensitivity

if TYPE_CHECKING:
    from numpy.typing import NDArray

Theme = Literal["light", "dark"]

COLUMNS = ("q", "k", "v", "o", "gate", "up", "down", "layer")
SUFFIXES = (".png", ".svg", ".pdf")

_INK = {"light": ("#1f2328", "#ffffff", "YlOrRd"), "dark": ("#e6edf3", "#0d1117", "inferno")}
_MOST_WITH_FIGURES = 12


@dataclass(frozen=True, kw_only=True)
class HeatMap:
    """What rounding one matrix alone costs: KL in nats [layers][columns]; None where it was not measured."""

    format: str
    columns: Sequence[str]
    rows: Sequence[Sequence[float | None]]


def make_heat_maps(found: Sensitivity) -> tuple[HeatMap, ...]:
    """One map for each format that was tried, of every matrix of a layer and the whole layer."""
    return tuple(
        HeatMap(format=format_, columns=COLUMNS, rows=[_row(found, index, format_) for index in range(found.layers)])
        for format_ in found.formats
    )


def _row(found: Sensitivity, index: int, format_: str) -> list[float | None]:
    effects = [found.single(name, format_) for name in layer_matrices(index)] + [found.layer(index, format_)]
    return [None if effect is None else effect.kl_mean for effect in effects]


def check_plot(path: Path) -> None:
    """Before anything is measured for it.

    Raises: InvalidOption for an ending other than those of `SUFFIXES`, NotWritable, MissingExtra.
    """
    if path.suffix not in SUFFIXES:
        raise InvalidOption("plot", str(path), f"must end in {', '.join(SUFFIXES)}")
    if not path.absolute().parent.is_dir():
        raise NotWritable(path, "there is no such directory")
    if find_spec("matplotlib") is None:
        raise MissingExtra("Drawing", "report")


def draw_heat_map(found: Sensitivity, path: Path, theme: Theme = "light") -> None:
    """Write the picture as .png, .svg or .pdf.

    Raises: InvalidOption for another ending, NotWritable, MissingExtra without matplotlib.
    """
    check_plot(path)
    import matplotlib
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    ink, paper, colours = _INK[theme]
    tables = {each.format: np.array(each.rows, np.float64) for each in make_heat_maps(found)}
    positive = np.concatenate([values[values > 0] for values in tables.values()])
    scale = LogNorm(positive.min(), positive.max())
    ink_of = {"text.color": ink, "axes.labelcolor": ink, "xtick.color": ink, "ytick.color": ink}
    with matplotlib.rc_context({**ink_of, "font.size": 9, "svg.hashsalt": "heat map"}):  # type: ignore[dict-item]
        height = 1.6 + 0.3 * max(found.layers, 4)
        figure = Figure(figsize=(0.9 + 3.6 * len(tables), height), facecolor=paper, layout="constrained")
        panels = figure.subplots(1, len(tables), squeeze=False)[0]
        for panel, (format_, values) in zip(panels, tables.items(), strict=True):
            image = panel.imshow(values, norm=scale, cmap=colours, aspect="auto")
            _label(panel, found, format_, values, scale)
        panels[0].set_ylabel("layer")
        bar = figure.colorbar(image, ax=list(panels), shrink=0.9, pad=0.02)
        figures = " (in the cells: millionths)" if found.layers <= _MOST_WITH_FIGURES else ""
        bar.set_label(f"KL, nats a position{figures}", color=ink)
        bar.outline.set_visible(False)
        with explain_write_errors(path):
            figure.savefig(path, dpi=120, metadata={"Date": None} if path.suffix == ".svg" else None)


def _label(panel: Any, found: Sensitivity, format_: str, values: NDArray[np.float64], scale: Any) -> None:
    head = found.single(LM_HEAD, format_)
    panel.set_title(format_ + (f"   (lm_head {head.kl_mean:.1e})" if head else ""), fontsize=10)
    panel.set_xticks(range(len(COLUMNS)), COLUMNS)
    panel.set_yticks(range(found.layers) if found.layers <= _MOST_WITH_FIGURES else range(0, found.layers, 2))
    panel.tick_params(length=0)
    for spine in panel.spines.values():
        spine.set_visible(False)
    panel.axvline(len(COLUMNS) - 1.5, color=panel.figure.get_facecolor(), linewidth=3)
    if found.layers > _MOST_WITH_FIGURES:
        return
    for (row, column), value in np.ndenumerate(values):
        if value > 0:
            red, green, blue, _ = panel.images[0].cmap(scale(value))
            is_bright = 0.299 * red + 0.587 * green + 0.114 * blue > 0.5
            panel.text(
                column,
                row,
                _short(value),
                ha="center",
                va="center",
                fontsize=7,
                color="black" if is_bright else "white",
            )


def _short(value: float) -> str:
    """Millionths, in as few characters as tell them apart."""
    return f"{value * 1e6:.1f}" if value < 1e-5 else f"{value * 1e6:.0f}"
