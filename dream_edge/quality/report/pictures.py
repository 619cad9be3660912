"""The pictures of a report, as SVG to be put into a page: colours are the page's own, so that it may be light or dark.

Drawn by Matplotlib in colours that stand for a role each, which are then replaced by the page's names for them.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from ..measure.differences import DoubleArray
from ..measure.figures import KL_EDGES, Bin, Measures
from .contents import Contents

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, FAINT, PAPER = "#010101", "#020202", "#030303"
SERIES = tuple(f"#0a0a{index:02x}" for index in range(8))
ROLES = {INK: "--ink", FAINT: "--line", PAPER: "--paper"} | {
    colour: f"--series-{index}" for index, colour in enumerate(SERIES)
}
_MARKS = "osD^vPX*"
_DASHES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (6, 2, 1, 2)))
_LONGEST_NAME = 28
_SMALLEST = 1e-9  # of what is drawn on a logarithmic axis


@dataclass(frozen=True)
class Picture:
    """`name` is unique on a page; `svg` has neither width nor colours of its own; `about` says what can be seen."""

    name: str
    title: str
    about: str
    svg: str


def draw_pictures(contents: Contents) -> list[Picture]:
    """Every picture that there is data for. This needs Matplotlib."""
    found = [by_mask_ratio(contents), histogram(contents)]
    if len(contents.entries) > 1:
        found.insert(0, size_and_loss(contents))
    traced = [each for entry in contents.entries for each in entry.comparison.trajectories]
    return found + [flips(contents, *kind) for kind in dict.fromkeys((each.algorithm, each.steps) for each in traced)]


def size_and_loss(contents: Contents) -> Picture:
    """Bits per weight against mean KL; a line joins those that nobody else is both smaller and better than."""
    points = [(entry.bits, _logarithmic(entry.comparison.overall.kl_mean), entry) for entry in contents.entries]

    def draw(axes: Axes) -> None:
        edge = frontier([(bits, kl) for bits, kl, _ in points])
        axes.plot(*zip(*edge, strict=True), color=FAINT, lw=2, zorder=1)
        by_size = sorted(range(len(points)), key=lambda index: points[index][0])
        for place, index in enumerate(by_size):
            bits, kl, entry = points[index]
            error = entry.comparison.overall.kl_mean_se
            axes.errorbar(bits, kl, min(error, 0.9 * kl), **_style(index), ls="none", capsize=3)
            right = 2 * bits > points[by_size[0]][0] + points[by_size[-1]][0]  # names grow towards the middle
            beside = (-7 if right else 7, -12 if place % 2 else 6)  # and neighbours' to different sides
            side: Any = {"ha": "right" if right else "left", "color": INK}
            axes.annotate(_short(entry.name), (bits, kl), beside, textcoords="offset points", **side)
        _floor(axes, contents)
        axes.set(xlabel="bits per weight", ylabel="mean KL, nats", yscale="log")
        axes.margins(x=0.18, y=0.2)

    best = min(contents.entries, key=lambda entry: entry.comparison.overall.kl_mean)
    small = min(contents.entries, key=lambda entry: entry.bits)
    about = f"{small.name} is the smallest, {best.name} loses least. Further down and further left is better."
    return _picture("size", "Size against loss", about, draw)


def by_mask_ratio(contents: Contents) -> Picture:
    """Mean KL for each interval of mask ratios, one line an artifact, and the noise floor."""

    def draw(axes: Axes) -> None:
        for index, entry in enumerate(contents.entries):
            middle, kl = _means(entry.comparison.bins)
            errors = np.minimum([part.measures.kl_mean_se for part in entry.comparison.bins], 0.9 * kl)
            shift = 0.008 * (index - (len(contents.entries) - 1) / 2)
            _curve(axes, index, entry.name, middle + shift, kl, errors)
        noise = contents.entries[0].comparison.noise
        if noise:
            axes.plot(*_means(noise.bins), color=INK, lw=1, ls=":", label="bf16 noise")
        axes.set(xlabel="share of tokens that are hidden", ylabel="mean KL, nats", yscale="log", xlim=(0, 1))
        axes.xaxis.set_major_formatter(_percent)
        axes.legend(**_LEGEND)

    worst = max(contents.entries[0].comparison.bins, key=lambda part: part.measures.kl_mean)
    about = f"{contents.entries[0].name} loses most where {worst.low:.0%} to {worst.high:.0%} of the tokens are hidden."
    return _picture("ratio", "Loss by how much is hidden", about, draw)


def histogram(contents: Contents) -> Picture:
    """How the KL of single positions is spread, on a logarithmic axis."""

    def draw(axes: Axes) -> None:
        for index, entry in enumerate(contents.entries):
            label, style = _short(entry.name), {"color": SERIES[index % 8], "ls": _DASHES[index % 8]}
            _steps(axes, entry.comparison.overall, label=label, **style)
        noise = contents.entries[0].comparison.noise
        if noise:
            _steps(axes, noise.overall, color=INK, ls=":", label="bf16 noise", lw=1)
        axes.set(xlabel="KL of one position, nats", ylabel="share of positions", xscale="log", ylim=(0, None))
        axes.yaxis.set_major_formatter(_percent)
        axes.legend(**_LEGEND)

    median = contents.entries[0].comparison.overall.kl_median
    about = f"Half of the positions of {contents.entries[0].name} are below {median:.1g} nats. Further left is better."
    return _picture("histogram", "Loss of single positions", about, draw)


def flips(contents: Contents, algorithm: str, steps: int | None) -> Picture:
    """Share of the reference's commitments that an artifact would not have made, by how far the text is."""
    found = [
        (index, figures)
        for index, entry in enumerate(contents.entries)
        for figures in entry.comparison.trajectories
        if (figures.algorithm, figures.steps) == (algorithm, steps)
    ]

    def draw(axes: Axes) -> None:
        for index, figures in found:
            middle = np.array([(part.low + part.high) / 2 for part in figures.by_step])
            values = np.array([part.flips.any.value for part in figures.by_step])
            errors = np.minimum([part.flips.any.error for part in figures.by_step], values)
            _curve(axes, index, contents.entries[index].name, middle, values, errors)
        axes.set(
            xlabel="progress of the text, in steps", ylabel="flips of token or position", xlim=(0, 1), ylim=(0, None)
        )
        axes.xaxis.set_major_formatter(_percent)
        axes.yaxis.set_major_formatter(_percent)
        axes.legend(**_LEGEND)

    pace = "one token a step" if steps is None else f"{steps} steps"
    overall = ", ".join(f"{contents.entries[index].name} {each.flips.any.value:.2%}" for index, each in found)
    name = f"flips-{re.sub('[^a-z0-9]+', '-', algorithm.lower())}-{steps or 'all'}"
    return _picture(name, f"Flips on the way ({algorithm}, {pace})", f"Of all tokens: {overall}.", draw)


def frontier(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Those that no other is both smaller and better than, by size."""
    found: list[tuple[float, float]] = []
    for size, loss in sorted(points):
        if not found or loss < found[-1][1]:
            found.append((size, loss))
    return found


# --- how it is drawn -------------------------------------------------------------------------------------------------

_LEGEND: dict[str, Any] = {"frameon": False, "labelcolor": INK, "fontsize": 9}


def _picture(name: str, title: str, about: str, draw: Callable[[Axes], None]) -> Picture:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    inked = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "legend.labelcolor")
    fixed = {"svg.fonttype": "none", "svg.hashsalt": "dream-edge", "font.family": "DejaVu Sans", "font.size": 10}
    settings: Any = {**mpl.rcParamsDefault, **dict.fromkeys(inked, INK), **fixed, "backend": "svg"}
    with mpl.rc_context(settings):
        figure = Figure(figsize=(6.4, 3.9))
        figure.subplots_adjust(left=0.11, right=0.96, bottom=0.13, top=0.97)
        axes = figure.add_subplot()
        draw(axes)
        axes.grid(color=FAINT, lw=0.6, zorder=0)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        data = io.StringIO()
        metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing")  # letters are the reader's fonts', not drawn here
            figure.savefig(data, format="svg", transparent=True, metadata=metadata)
    return Picture(name, title, about, _inline(data.getvalue(), name, title, about))


def _inline(svg: str, name: str, title: str, about: str) -> str:
    """The drawing, named: sized by the page, in its colours and letters, with ids that no other picture has."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<(metadata|defs)>\s*</\1>|<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    box = re.search(r'viewBox="([^"]+)"', svg)
    assert box is not None
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(?:xlink:)?href="#', f'href="#{name}-', svg)
    svg = svg.replace("url(#", f"url(#{name}-")
    svg = re.sub(r"font: ([\d.]+px) [^;\"]+", r"font: \1 system-ui, sans-serif", svg)
    for colour, role in ROLES.items():
        svg = svg.replace(colour, f"var({role})")
    opening = f'<svg role="img" aria-labelledby="{name}-title {name}-about" viewBox="{box[1]}">'
    names = f'<title id="{name}-title">{escape(title)}</title><desc id="{name}-about">{escape(about)}</desc>'
    return f"{opening}{names}{svg.partition('>')[2].strip()}"


def _style(index: int) -> dict[str, Any]:
    return {"color": SERIES[index % 8], "marker": _MARKS[index % 8], "ms": 6, "lw": 1.6, "zorder": 3}


def _means(bins: Sequence[Bin]) -> tuple[DoubleArray, DoubleArray]:
    """The middle of each interval of mask ratios, and its mean KL."""
    middle = np.array([(part.low + part.high) / 2 for part in bins])
    return middle, np.array([_logarithmic(part.measures.kl_mean) for part in bins])


def _curve(axes: Axes, index: int, name: str, x: DoubleArray, y: DoubleArray, errors: DoubleArray) -> None:
    axes.errorbar(x, y, errors, **_style(index), ls=_DASHES[index % 8], capsize=2, label=_short(name))


def _steps(axes: Axes, measured: Measures, **style: Any) -> None:
    counts = np.array(measured.kl_histogram).reshape(-1, 2).sum(axis=1)  # two bins a decade are enough to look at
    axes.stairs(counts / measured.positions, KL_EDGES[::2], **{"lw": 1.6, "baseline": None, **style})


def _floor(axes: Axes, contents: Contents) -> None:
    noise = contents.entries[0].comparison.noise
    if noise:
        axes.axhline(_logarithmic(noise.overall.kl_mean), color=INK, lw=1, ls=":", zorder=2)
        at = (0.99, _logarithmic(noise.overall.kl_mean))
        places: Any = ("axes fraction", "data")
        axes.annotate("bf16 noise", at, (0, 3), xycoords=places, textcoords="offset points", ha="right", color=INK)


def _percent(value: float, _: object = None) -> str:
    return f"{value:.0%}" if value >= 0.1 or value == 0 else f"{100 * value:.2g}%"


def _logarithmic(value: float) -> float:
    return max(value, _SMALLEST)


def _short(name: str) -> str:
    """A name for a legend: Matplotlib takes a dollar for mathematics, and a leading underscore for no label."""
    shown = "".join(letter if letter.isprintable() and letter not in "$\\" else "·" for letter in name)
    shown = shown if len(shown) <= _LONGEST_NAME else f"{shown[: _LONGEST_NAME - 1]}…"
    return f"·{shown[1:]}" if shown.startswith("_") else shown
