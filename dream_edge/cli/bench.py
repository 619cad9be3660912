"""`dream-edge bench`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dream_edge_runtime.units import counted, size

from . import options
from .terminal.io import print_json, printable
from .terminal.progress import show_progress
from .terminal.table import print_table

if TYPE_CHECKING:
    from dream_edge.benchmark.bench import Bench, Pass


@options.expand_options()
def bench(
    artifact: options.ArtifactArgument,
    canvas: Annotated[
        list[int] | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Time a pass over N tokens. May be repeated.  [default: 64, 256 and 512]",
        ),
    ] = None,
    max_new_tokens: Annotated[
        int, typer.Option("--max-new-tokens", "-n", metavar="N", min=1, help="Tokens to generate.")
    ] = 32,
    repeats: Annotated[int, typer.Option(metavar="N", min=1, help="Passes of which the median counts.")] = 3,
    json: options.PrintJson = False,
    *,
    loading: options.Loading,
) -> None:
    """Time an artifact on this machine.

    Loading, memory, passes by size of the canvas with and without remembered keys and values, a text at one token per
    pass, and how near all that comes to the machine's fastest matrix product. Close other programs first.
    """
    import dream_edge

    with show_progress() as progress:
        found = dream_edge.bench(
            artifact,
            canvases=canvas,
            new_tokens=max_new_tokens,
            repeats=repeats,
            **loading.keywords(),
            progress=progress,
        )
    if json:
        print_json(found.to_dict())
        return
    typer.echo(printable("\n".join(_summary(found))))
    for title, rows in _tables(found):
        typer.echo()
        print_table(title, rows)


def _summary(found: Bench) -> list[str]:
    threads = counted(found.threads, "thread") if found.threads else "a thread a core"
    load, memory = found.load, "memory unknown"
    if load.resident_bytes is not None:
        memory = f"{size(load.resident_bytes)} resident"
    rows = [
        ("artifact", f"{found.artifact} ({found.scheme}) on {found.device}, {threads}"),
        ("machine", found.machine),
        ("load", f"{load.seconds:.2f} s, {memory}{_most(load.peak_bytes)}; while running{_most(found.peak_bytes)}"),
    ]
    if found.peaks:
        peaks = ", ".join(f"{speed / 1e9:.0f} Gop/s {kind}" for kind, speed in found.peaks.items())
        rows.append(("peak", f"{peaks}, one large matrix product; shares are of {found.compared_with}"))
    return [f"{name:<9} {value}" for name, value in rows]


def _most(peak: int | None) -> str:
    return "" if peak is None else f", {size(peak)} at most"


def _tables(found: Bench) -> list[tuple[str, list[tuple[str, ...]]]]:
    passes: list[tuple[str, ...]] = [("canvas", "active", "cached", "ms", "share of peak")]
    passes += [
        (f"{each.canvas} tokens", str(each.active), str(each.canvas - each.active), *_pace(each))
        for each in found.passes
    ]
    texts: list[tuple[str, ...]] = [("cache", "tokens", "passes", "seconds", "tokens/s")]
    texts += [
        (each.cache, str(each.new_tokens), str(each.passes), f"{each.seconds:.2f}", f"{each.tokens_per_second:.2f}")
        for each in found.generations
    ]
    prompt = found.generations[0].prompt_tokens
    return [
        ("One pass, every active row projected", passes),
        (f"A text after {prompt} tokens, one token per pass", texts),
    ]


def _pace(each: Pass) -> tuple[str, str]:
    share = "–" if each.share_of_peak is None else f"{each.share_of_peak:.0%}"
    return f"{1000 * each.seconds:.1f}", share
