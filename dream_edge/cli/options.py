"""Options that several verbs share, each declared once."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .terminal.progress import show_progress

if TYPE_CHECKING:
    from dream_edge_runtime.model import DreamModel

SAMPLING = "How tokens are chosen"
RUNNING = "How it runs"
SHOWING = "What is shown"


class Algorithm(StrEnum):
    ORIGIN = "origin"
    MASKGIT_PLUS = "maskgit_plus"
    TOPK_MARGIN = "topk_margin"
    ENTROPY = "entropy"
    LEFT_TO_RIGHT = "left_to_right"


class Device(StrEnum):
    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class SchemeName(StrEnum):
    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"
    INT4 = "int4"
    MIXED = "mixed"
    NF4 = "nf4"


class CacheName(StrEnum):
    NONE = "none"
    PREFIX = "prefix"
    DUAL = "dual"
    AUTO = "auto"


class TargetName(StrEnum):
    CPU = "cpu"
    CUDA = "cuda"
    ALL = "all"


ArtifactArgument = Annotated[
    str, typer.Argument(metavar="ARTIFACT", help='Directory of an artifact, owner/name, or "tiny".')
]

Steps = Annotated[
    int | None,
    typer.Option(
        "--steps", metavar="N", min=1, help="Denoising steps; with --threshold, at most.", rich_help_panel=SAMPLING
    ),
]
Alg = Annotated[
    Algorithm | None,
    typer.Option(
        "--alg",
        metavar="NAME",
        help="What is revealed first: origin (at random), maskgit_plus, topk_margin, entropy or left_to_right.",
        rich_help_panel=SAMPLING,
    ),
]
Temperature = Annotated[
    float | None,
    typer.Option(metavar="X", help="Divides the logits; 0 takes the most probable token.", rich_help_panel=SAMPLING),
]
TopP = Annotated[
    float | None,
    typer.Option(
        metavar="X", help="Keep the best tokens that together exceed this probability.", rich_help_panel=SAMPLING
    ),
]
TopK = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="Keep this many of the best tokens.", rich_help_panel=SAMPLING)
]
AlgTemp = Annotated[
    float | None,
    typer.Option(
        metavar="X", help="Draw positions at this temperature; 0 takes the best ones.", rich_help_panel=SAMPLING
    ),
]
Eps = Annotated[
    float | None,
    typer.Option(
        metavar="X", help="Where the time of the noise schedule ends, between 0 and 1.", rich_help_panel=SAMPLING
    ),
]
EosPenalty = Annotated[
    float | None,
    typer.Option(
        "--eos-penalty",
        metavar="X",
        min=0,
        help="Hold back the end of the text at the beginning, so that the text is not empty or cut short.",
        rich_help_panel=SAMPLING,
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(metavar="N", min=0, help="Repeats a generation; without it each is new.", rich_help_panel=SAMPLING),
]
Threshold = Annotated[
    float | None,
    typer.Option(
        metavar="X", help="Reveal at once every token at least this probable, 0 to 1.", rich_help_panel=SAMPLING
    ),
]
Factor = Annotated[
    float | None,
    typer.Option(
        metavar="X",
        help="Instead: reveal n tokens at once while (n + 1)(1 - the least probability) is below X.",
        rich_help_panel=SAMPLING,
    ),
]
EntropyBound = Annotated[
    float | None,
    typer.Option(
        "--entropy-bound",
        metavar="X",
        help="Instead: reveal tokens at once while their entropies, but the largest, sum to at most X nats.",
        rich_help_panel=SAMPLING,
    ),
]
Sched = Annotated[
    float | None,
    typer.Option(
        metavar="X",
        help="Instead: keep to the steps until the best logits lead by X on average; then reveal all.",
        rich_help_panel=SAMPLING,
    ),
]
LocalLeap = Annotated[
    float | None,
    typer.Option(
        "--local-leap",
        metavar="X",
        help="Instead: reveal every token at least 0.9 probable, and near those every one of X.",
        rich_help_panel=SAMPLING,
    ),
]
Klass = Annotated[
    float | None,
    typer.Option(
        metavar="X",
        help="Instead: reveal every token at least 0.9 probable that moved by less than X nats at two steps.",
        rich_help_panel=SAMPLING,
    ),
]
BlockLength = Annotated[
    int | None,
    typer.Option(
        "--block-length",
        metavar="N",
        min=1,
        help="Fill the text in blocks of so many tokens, from left to right.  [default: all at once, 32 with a cache]",
        rich_help_panel=SAMPLING,
    ),
]
Cache = Annotated[
    CacheName | None,
    typer.Option(
        "--cache",
        help="Inside a block, compute again only the block (dual), or it and what follows (prefix).  [default: auto]",
        rich_help_panel=SAMPLING,
    ),
]
SuffixWindow = Annotated[
    int | None,
    typer.Option(
        "--suffix-window",
        metavar="N",
        min=0,
        help="How many of the masks after the block are looked at.  [default: all]",
        rich_help_panel=SAMPLING,
    ),
]
GrowFrom = Annotated[
    int | None,
    typer.Option(
        "--grow-from",
        metavar="N",
        min=1,
        help="Begin with so many tokens and double them while no end is in sight.  [default: all of them]",
        rich_help_panel=SAMPLING,
    ),
]
MaxHoleTokens = Annotated[
    int | None,
    typer.Option(
        "--max-hole-tokens",
        metavar="N",
        min=0,
        help="How far the holes may grow together, with a model that can expand them (DreamOn); 0 fixes their sizes."
        "  [default: 64]",
        rich_help_panel=SAMPLING,
    ),
]
StopAtEnd = Annotated[
    bool,
    typer.Option(
        "--stop-at-end",
        help="Stop once the end of the text is settled; the text is the same.",
        rich_help_panel=SAMPLING,
    ),
]
Exact = Annotated[
    bool,
    typer.Option(
        "--exact",
        help="The official loop with the checkpoint's own defaults; no threshold, blocks or cache.",
        rich_help_panel=SAMPLING,
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, help="Threads for a pass.  [default: one per core]", rich_help_panel=RUNNING),
]
DeviceChoice = Annotated[Device, typer.Option("--device", help="Where it runs.", rich_help_panel=RUNNING)]
AsInt8 = Annotated[
    bool,
    typer.Option(
        "--as-int8",
        help="Run 4-bit weights as 8-bit ones: twice as fast on a CPU, 1.6 times the memory; the cache keeps a copy.",
        rich_help_panel=RUNNING,
    ),
]
NoMemoryCheck = Annotated[
    bool,
    typer.Option("--no-memory-check", help="Load even what the free memory cannot hold.", rich_help_panel=RUNNING),
]
Visual = Annotated[
    bool, typer.Option("--visual", help="Draw the text while it is denoised, on stderr.", rich_help_panel=SHOWING)
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.", rich_help_panel=SHOWING)]


def sampling(
    *,
    alg: Algorithm | None,
    alg_temp: float | None,
    exact: bool,
    cache: CacheName | None,
    **fields: Any,
) -> dict[str, Any]:
    """The generation options that were given, as keywords of `DreamModel.generate`; the others are up to the preset.

    Raises:
        InvalidOption: a value that its option cannot have.
    """
    from dream_edge_runtime.generation.config import PARALLEL, GenerationConfig
    from dream_edge_runtime.generation.options import SAVING

    fields |= {"algorithm": alg and alg.value, "algorithm_temperature": alg_temp, "cache": cache and cache.value}
    for name in (*PARALLEL, *SAVING):
        if exact and fields.get(name) is not None:
            raise typer.BadParameter(f"contradicts {_flag(name)}: the official loop has none", param_hint="--exact")
    first, *others = [_flag(name) for name in PARALLEL if fields.get(name) is not None] or [""]
    if others:
        raise typer.BadParameter(f"contradicts {first}: name one of them", param_hint=others[0])
    chosen = {name: value for name, value in fields.items() if value is not None}
    GenerationConfig(**chosen)  # refuses bad values before a model is loaded
    return chosen | ({"exact": True} if exact else {})


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def load_model(
    artifact: str, *, device: Device, threads: int | None, as_int8: bool = False, no_memory_check: bool = False
) -> DreamModel:
    """`dream_edge.load`, with its progress shown."""
    import dream_edge

    with show_progress() as progress:
        return dream_edge.load(
            artifact,
            device=device.value,
            threads=threads,
            as_int8=as_int8,
            memory_check=not no_memory_check,
            progress=progress,
        )


Report = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Write a report for people: one HTML page with pictures, Markdown and JSON."),
]
