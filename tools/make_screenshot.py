"""Draw docs/images/denoising.svg: the live view of the tiny Dream at three moments of two generations.

python -m tools.make_screenshot docs/images/denoising.svg
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

import dream_edge
from dream_edge.cli.terminal.canvas_view import CanvasView, header
from dream_edge_runtime.generation.results import Step
from dream_edge_runtime.text.tokenizer import Tokenizer

ASKED, WIDTH, GAP = 20, 26, 3  # columns
MOMENTS = (0.25, 0.5, 0.8)
PUZZLE = "Input:\n1000\n0002\n4003\n0000\nOutput:\n"
SENTENCE = ("Yesterday", " because they were hungry.")
HOLE = 8

# rich's own format without its fonts, which would be fetched from elsewhere
SVG = """<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: {char_height}px;
line-height: {line_height}px; font-variant-east-asian: full-width; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal"><rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/>
</clipPath>{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">{matrix}</g>
</g>
</svg>
"""


def moments(steps: Iterable[Step], tokenizer: Tokenizer) -> list[Text]:
    """The view when each of `MOMENTS` is reached, as a terminal of `WIDTH` columns shows it."""
    view, wanted = CanvasView(tokenizer), list(MOMENTS)
    drawn: list[Text] = []
    for step in steps:
        view.observe(step)
        lines = view.frame(step, WIDTH, 24)
        if wanted and step.progress >= wanted[0]:
            wanted.pop(0)
            drawn.append(Text("\n").join([header(step, 0.0, WIDTH), *lines]))
    return drawn


def picture(model: dream_edge.DreamModel) -> str:
    """The SVG."""
    console = Console(
        record=True, width=ASKED + GAP + len(MOMENTS) * (WIDTH + GAP) - GAP, file=io.StringIO(), highlight=False
    )
    prefix, suffix = SENTENCE
    shown = (
        (PUZZLE.rstrip(), model.stream(PUZZLE, raw=True, max_new_tokens=20, steps=20)),
        (f"{prefix}[[{HOLE}]]{suffix}", model.stream_infill(prefix, suffix, HOLE, steps=HOLE)),
    )
    for asked, steps in shown:
        row = Table.grid(padding=(0, GAP, 0, 0), pad_edge=False)
        for width in (ASKED, *[WIDTH] * len(MOMENTS)):
            row.add_column(width=width)
        row.add_row(Text(asked, "bold"), *moments(steps, model.tokenizer))
        console.print(row)
        console.print()
    return console.export_svg(title="dream-edge demo", code_format=SVG, unique_id="denoising")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the SVG to write")
    parser.add_argument("--artifact", default="tiny", help="whose denoising is drawn")
    arguments = parser.parse_args()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(picture(dream_edge.load(arguments.artifact)), encoding="utf-8")


if __name__ == "__main__":
    main()
