"""`dream-edge score`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dream_edge_runtime.generation.options import DEFAULT_PRESET

from . import options
from .terminal.io import print_json
from .terminal.progress import show_progress
from .terminal.table import print_table

if TYPE_CHECKING:
    from dream_edge.scoring.score import Score

HEAD = ("task", "setting", "solved", "95%", "passes", "tokens a pass", "points", "lost", "gained", "p", "cases")


@options.expand_options()
def score(
    artifact: options.ArtifactArgument,
    tasks: Annotated[
        str | None,
        typer.Option(metavar="NAMES", help="Tasks or kinds of them, as line/copy,puzzle.  [default: line,text,puzzle]"),
    ] = None,
    cases: Annotated[int, typer.Option(metavar="N", min=1, help="Of each task.")] = 4,
    compared: Annotated[
        str | None,
        typer.Option(
            "--settings",
            metavar="LIST",
            help="What is compared with one token a step: tokens a step (2), thresholds (0.9), strategies "
            f"(factor:0.5), presets.  [default: {DEFAULT_PRESET},2,4]",
        ),
    ] = None,
    shots: Annotated[
        int | None,
        typer.Option(metavar="N", min=0, help="Solved examples before a question.  [default: 1; 8 for planning tasks]"),
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Ask in plain text also a model that chats.")] = False,
    holes: Annotated[
        bool, typer.Option("--holes", help="Give the form of the answers, with holes for what is to be found.")
    ] = False,
    keep: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Keep the answers, and resume there when interrupted.")
    ] = None,
    json: options.PrintJson = False,
    *,
    loading: options.Loading,
) -> None:
    """Measure what revealing several tokens at once breaks.

    Seventeen tasks after ParallelBench: copying and changing a waiting line, writing sentences, filling grids. Each is
    decoded at one token a step, and at every setting; points, lost and gained cases and p (McNemar) compare the two.
    """
    import dream_edge
    from dream_edge.scoring.settings import USUAL

    with show_progress() as progress:
        found = dream_edge.score(
            artifact,
            tasks=[] if tasks is None else tasks.split(","),
            cases=cases,
            settings=USUAL if compared is None else compared.split(","),
            shots=shots,
            raw=raw,
            holes=holes,
            keep=keep,
            **loading.keywords(),
            progress=progress,
        )
    if json:
        print_json(found.to_dict())
    else:
        print_table(*_table(found))


def _table(found: Score) -> tuple[str, list[tuple[str, ...]]]:
    rows = [
        (
            each.task,
            each.setting,
            f"{each.solved:.0%}",
            "–".join(f"{bound:.0%}" for bound in each.solved_interval),
            f"{each.passes:.1f}",
            f"{each.tokens_per_pass:.2f}",
            f"{100 * each.difference:+.0f}",
            f"{each.lost}",
            f"{each.gained}",
            f"{each.p_value:.2g}",
            f"{each.cases}",
        )
        for each in found.rows
    ]
    how = ("conversations" if found.chat else "plain text") + (", form of the answers given" if found.holes else "")
    return f"{found.artifact}, asked in {how}; points against one token a step", [HEAD, *rows]
