"""Options that several verbs share: those of a generation, made from the runtime's table, and those of loading."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from dream_edge_runtime.constraint.rule import read_rule
from dream_edge_runtime.errors import InvalidOption
from dream_edge_runtime.files.json import parse_json_object
from dream_edge_runtime.format.recipe import Scheme, Target
from dream_edge_runtime.generation.config import DEFAULTS, OPTIONS, GenerationConfig
from dream_edge_runtime.generation.option import Choice, Flag, Integer, Option, Real, Texts
from dream_edge_runtime.generation.options import DEFAULT_PRESET, PRESETS, resolve
from dream_edge_runtime.generation.reveal import StrategyName
from dream_edge_runtime.inference.devices import Device, choose_device
from dream_edge_runtime.progress import OnProgress
from dream_edge_runtime.units import size

from .terminal.io import note
from .terminal.progress import show_progress

if TYPE_CHECKING:
    from dream_edge_runtime.model import DreamModel

_MUCH_FASTER = 1.2
SAMPLING = "How tokens are chosen"
RUNNING = "How it runs"
SHOWING = "What is shown"

SchemeName = Scheme
TargetName = Literal[Target, "all"]

ArtifactArgument = Annotated[
    str, typer.Argument(metavar="ARTIFACT", help='Directory of an artifact, owner/name, "tiny" or "tiny-SCHEME".')
]
Algorithm = Annotated[str, typer.Option(metavar="NAME", help=OPTIONS["algorithm"].help)]
CheckpointArgument = Annotated[
    str, typer.Argument(metavar="CHECKPOINT", help='A Dream checkpoint: directory, owner/name, or "tiny".')
]
OPEN_FACTS = "What the checkpoint's files may leave open"
Attention = Annotated[
    str | None,
    typer.Option(
        metavar="KIND",
        help="What a position attends to: full, or block-causal:N for blocks of N.",
        rich_help_panel=OPEN_FACTS,
    ),
]
Shift = Annotated[
    int | None,
    typer.Option(metavar="0|1", help="How far after a row of logits its token stands.", rich_help_panel=OPEN_FACTS),
]
MaskToken = Annotated[
    str | None,
    typer.Option(metavar="TEXT", help="The token that stands for what is to be found.", rich_help_panel=OPEN_FACTS),
]
Threads = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, help="Threads for a pass.  [default: one per core]", rich_help_panel=RUNNING),
]
PrefixCache = Annotated[
    int | None,
    typer.Option(
        "--prefix-cache",
        metavar="MB",
        min=0,
        help="Memory for what a block-causal model has computed of earlier texts; 0 keeps nothing.  "
        "[default: a quarter of what is free, at most 4000]",
        rich_help_panel=RUNNING,
    ),
]
Visual = Annotated[
    bool, typer.Option("--visual", help="Draw the text while it is denoised, on stderr.", rich_help_panel=SHOWING)
]
Report = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Write a report for people: one HTML page with pictures, Markdown and JSON."),
]
Sequences = Annotated[int | None, typer.Option(metavar="N", min=1, help="Masked texts to measure.  [default: 128]")]
Longest = Annotated[int | None, typer.Option(metavar="N", min=2, help="Cut texts to N tokens.  [default: 512]")]
MaskSeed = Annotated[int | None, typer.Option(metavar="N", min=0, help="Seed for the masks.  [default: 0]")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.", rich_help_panel=SHOWING)]
MATCHING = "What the text must match"
JsonSchema = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE|true",
        help="JSON that is valid under this JSON schema; true: any object.",
        rich_help_panel=MATCHING,
    ),
]
Regex = Annotated[
    str | None, typer.Option(metavar="REGEX", help="What this regular expression matches.", rich_help_panel=MATCHING)
]
ChoiceTexts = Annotated[
    list[str] | None,
    typer.Option("--choice", metavar="TEXT", help="One of these texts; give it for each.", rich_help_panel=MATCHING),
]
PrintJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@dataclass(frozen=True, kw_only=True)
class Loading:
    """How a model is loaded."""

    threads: Threads = None
    device: Annotated[Device, typer.Option(help="Where it runs.", rich_help_panel=RUNNING)] = "auto"
    as_int8: Annotated[
        bool,
        typer.Option(
            "--as-int8",
            help="Run 4-bit weights as 8-bit ones: 1.5 times as fast on a CPU, 1.6 times the memory. A copy is cached.",
            rich_help_panel=RUNNING,
        ),
    ] = False
    no_memory_check: Annotated[
        bool,
        typer.Option("--no-memory-check", help="Load even what the free memory cannot hold.", rich_help_panel=RUNNING),
    ] = False

    def keywords(self) -> dict[str, Any]:
        """Those of `dream_edge.load`."""
        return {
            "device": self.device,
            "threads": self.threads,
            "as_int8": self.as_int8,
            "memory_check": not self.no_memory_check,
        }


Settings = dict[str, Any]
"""The generation options that were given, as keywords of `DreamModel.generate`; the others are up to the preset."""


def expand_options(*left_out: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Put the options of a generation in the place of a verb's parameter `settings`, all but those `left_out`, and the
    options of loading in that of its parameter `loading`.
    """
    generation = generation_parameters(*left_out)
    loading = list(inspect.signature(Loading, eval_str=True).parameters.values())

    def decorate(verb: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(verb, eval_str=True).parameters
        parameters: list[inspect.Parameter] = []
        for each in own.values():
            parameters += {"settings": generation, "loading": loading}.get(each.name, [each])

        @wraps(verb)
        def run(**given: Any) -> None:
            if "settings" in own:
                given["settings"] = read_settings({each.name: given.pop(each.name) for each in generation})
            if "loading" in own:
                given["loading"] = Loading(**{each.name: given.pop(each.name) for each in loading})
            verb(**given)

        keyword = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in parameters]
        run.__signature__ = inspect.Signature(keyword)  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in parameters}
        return run

    return decorate


def generation_parameters(*left_out: str) -> list[inspect.Parameter]:
    """A parameter for each option of a generation but those `left_out`, as Typer reads them."""
    named = {name: _annotate(name, each) for name, each in OPTIONS.items() if name not in left_out}
    presets = " ".join(f"{name}: {each.help}" for name, each in PRESETS.items())
    presets += f"  [default: {DEFAULT_PRESET}]"
    preset = typer.Option("--preset", metavar="NAME", help=presets, rich_help_panel=SAMPLING)
    exact = typer.Option("--exact", help="The same as --preset exact.", rich_help_panel=SAMPLING)
    named |= {"preset": Annotated[str | None, preset], "exact": Annotated[bool, exact]}
    return [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=False if name == "exact" or isinstance(DEFAULTS.get(name), bool) else None,
            annotation=annotation,
        )
        for name, annotation in named.items()
    ]


def _annotate(name: str, option: Option) -> Any:
    """The annotation of one option's parameter. Ranges are the runtime's to check, so that they are worded once."""
    kind = option.kind
    types: dict[type, tuple[Any, str | None]] = {
        Integer: (int | None, "N"),
        Real: (float | None, "X"),
        Choice: (str | None, "NAME"),
        Flag: (bool, None),
        Texts: (list[str] | None, "TEXT"),
        StrategyName: (str | None, "NAME:VALUE"),
    }
    annotation, metavar = types[type(kind)]
    if isinstance(kind, Choice) and name != "algorithm":
        metavar = "|".join(kind.names)
    default = option.default_help or (f"{DEFAULTS[name]}" if name in ("max_new_tokens", "max_hole_tokens") else "")
    details = option.explain() + (f"  [default: {default}]" if default else "")
    flags = option.flags or ("--" + name.replace("_", "-"),)
    if isinstance(kind, Flag) and DEFAULTS[name] is None:  # neither on nor off
        annotation, flags = bool | None, (f"{flags[0]}/--no-{flags[0][2:]}",)
    panel = None if name in ("max_new_tokens", "stop", "thinking") else SAMPLING
    return Annotated[annotation, typer.Option(*flags, metavar=metavar, help=details, rich_help_panel=panel)]


def read_settings(given: dict[str, Any]) -> Settings:
    """Keep what was given, and refuse bad values before a model is loaded.

    Raises:
        InvalidOption: a value that its option cannot have, or options that contradict each other.
    """
    settings = {
        name: value
        for name, value in given.items()
        if value is not None and value != [] and (value is not False or DEFAULTS.get(name, False) is None)
    }
    resolve(GenerationConfig(), None, settings)
    return settings


def read_rules(json_schema: Path | None, regex: str | None, choices: list[str] | None) -> Settings:
    """What the text must match, as keywords of `DreamModel.generate`, read before a model is loaded.

    Raises:
        InvalidOption: two are given, or the file cannot be read.
        InvalidRegex, InvalidSchema, ConstraintTooLarge: one that is none, or too large.
    """
    schema: dict[str, Any] | bool | None = None
    if json_schema is not None:
        try:
            is_any = str(json_schema) == "true"
            schema = is_any or parse_json_object(json_schema.expanduser().read_bytes())
        except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: ~nobody
            requirement = f"must be true, or a file with a JSON schema ({error})"
            raise InvalidOption("json_schema", str(json_schema), requirement) from None
    rules = {"json_schema": schema, "regex": regex, "choices": choices or None}
    if rule := read_rule(rules):
        rule.read()
    return {name: value for name, value in rules.items() if value is not None}


def load_model(artifact: str, loading: Loading, prefix_cache: int | None = 0) -> DreamModel:
    """`dream_edge.load`, with its progress shown; `prefix_cache` in megabytes."""
    import dream_edge

    with show_progress() as progress:
        advice = None if loading.as_int8 else _advise_int8(artifact, loading, progress)
        model = dream_edge.load(
            artifact, **loading.keywords(), prefix_cache_bytes=in_bytes(prefix_cache), progress=progress
        )
    if advice:
        note(advice)
    return model


def _advise_int8(artifact: str, loading: Loading, progress: OnProgress) -> str | None:
    """What --as-int8 would give here, if that is much: by a probe that is kept in the user's cache."""
    from dream_edge.models import cache_directory, open_artifact
    from dream_edge.recommendation.as_int8 import find_gain

    opened = open_artifact(artifact, progress=progress)
    if choose_device(loading.device, opened.manifest.graphs, opened.path) != "cpu":
        return None
    gain = find_gain(opened, cache_directory() / "probes", threads=loading.threads, progress=progress)
    if gain is None or gain.full < _MUCH_FASTER:
        return None
    return (
        f"With --as-int8 a pass is {gain.full:.1f} times as fast here, a cached one {gain.cached:.1f} times, for "
        f"{size(gain.memory_bytes)} of memory and a copy of {size(gain.disk_bytes)} on disk."
    )


def in_bytes(megabytes: int | None) -> int | None:
    """As `dream_edge.load` takes them."""
    return None if megabytes is None else megabytes * 1_000_000
