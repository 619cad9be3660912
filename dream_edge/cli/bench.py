"""`dream-edge bench`."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options as given
from .as_int8 import requantize_first
from .pull import at_hand
from .terminal.io import aligned, is_terminal, print_json, printable, size
from .terminal.progress import Advance, progress

if TYPE_CHECKING:
    from dream_edge.benchmark.bench import Bench, Pass


def bench(
    artifact: given.ArtifactArgument,
    canvas: Annotated[
        list[int] | None,
        typer.Option(
            metavar="TOKENS",
            min=1,
            help="Time passes over so many tokens. May be repeated.  [default: 64, 256 and 512]",
        ),
    ] = None,
    max_new_tokens: Annotated[
        int, typer.Option("--max-new-tokens", "-n", metavar="N", min=1, help="Tokens to generate.")
    ] = 32,
    repeats: Annotated[int, typer.Option(metavar="N", min=1, help="Passes of which the median counts.")] = 3,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    threads: given.Threads = None,
    device: given.DeviceChoice = given.Device.AUTO,
    scheme: given.SchemeChoice = None,
    as_int8: given.AsInt8 = False,
    no_memory_check: given.NoMemoryCheck = False,
) -> None:
    """Time an artifact on this machine.

    Loading, memory, passes by size of the canvas with and without remembered keys and values, a text at one token per
    pass, and how near all that comes to the machine's fastest matrix product. Close other programs first.
    """
    from dream_edge.benchmark.bench import bench
    from dream_edge.hub import Kind

    model, named, memory_check = at_hand(artifact, Kind.ARTIFACT), scheme and scheme.value, not no_memory_check
    if as_int8:
        model = requantize_first(model, scheme=named, device=device.value, threads=threads, memory_check=memory_check)
        named = None  # the copy has another
    with ExitStack() as stack:
        found = bench(
            model,
            canvases=canvas,
            new_tokens=max_new_tokens,
            repeats=repeats,
            device=device.value,
            threads=threads,
            scheme=named,
            memory_check=memory_check,
            progress=_Passes(stack),
        )
    if json:
        print_json(to_json(found))
    else:
        _show(found)


class _Passes:
    """Shows how many passes are done, from the moment their number is known."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._advance: Advance | None = None

    def __call__(self, done: int, total: int) -> None:
        if self._advance is None:
            self._advance = self._stack.enter_context(progress("Timing", total, lambda count: f"{count:.0f} passes"))
        self._advance(done)


def to_json(found: Bench) -> dict[str, Any]:
    """Times in seconds, memory in bytes, peaks in operations a second, shares between 0 and 1."""
    from dataclasses import asdict

    values = asdict(found) | {"artifact": str(found.artifact)}
    for written, generation in zip(values["generations"], found.generations, strict=True):
        written["tokens_per_second"] = generation.tokens_per_second
    return values


def _show(found: Bench) -> None:
    """Tables; with their lines drawn on a terminal."""
    typer.echo(printable("\n".join(_summary(found))))
    for title, rows in _tables(found):
        typer.echo()
        if is_terminal(sys.stdout):
            _draw(title, rows)
        else:
            typer.echo("\n".join([title, *aligned(rows)]))


def _draw(title: str, rows: list[tuple[str, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for column, name in enumerate(rows[0]):
        table.add_column(name, justify="right" if column else "left")
    for row in rows[1:]:
        table.add_row(*row)
    Console().print(table, markup=False)


def _summary(found: Bench) -> list[str]:
    threads = f"{found.threads} thread{'' if found.threads == 1 else 's'}" if found.threads else "a thread a core"
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
        (
            each.cache,
            str(each.new_tokens),
            str(each.passes),
            f"{each.seconds:.2f}",
            f"{each.tokens_per_second:.2f}",
        )
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
