"""`dream-edge recommend`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dream_edge_runtime.units import counted, size

from . import options
from .terminal.io import print_json, printable
from .terminal.progress import show_progress
from .terminal.table import print_table

if TYPE_CHECKING:
    from dream_edge.recommendation.candidates import Candidate
    from dream_edge.recommendation.recommend import Recommendation


def recommend(
    max_new_tokens: Annotated[
        int, typer.Option("--max-new-tokens", "-n", metavar="N", min=1, help="Tokens of an answer.")
    ] = 128,
    prompt_tokens: Annotated[int, typer.Option(metavar="N", min=1, help="Tokens of the prompt before it.")] = 128,
    patience: Annotated[float, typer.Option(metavar="SECONDS", help="How long an answer may take.")] = 60.0,
    threads: options.Threads = None,
    json: options.PrintJson = False,
) -> None:
    """Say which published model suits this machine.

    By the memory that is free, and by seconds per answer from a probe of about ten seconds. Nothing is downloaded.
    """
    import dream_edge

    with show_progress() as progress:
        found = dream_edge.recommend(
            prompt_tokens=prompt_tokens,
            new_tokens=max_new_tokens,
            patience=patience,
            threads=threads,
            progress=progress,
        )
    if json:
        print_json(found.to_dict())
        return
    typer.echo(printable("\n".join(_describe_machine(found))))
    typer.echo()
    title = f"An answer of {counted(found.new_tokens, 'token')} after {found.prompt_tokens}"
    print_table(title, _table(found))
    typer.echo()
    typer.echo("\n".join([*_explain(found), "", *_advise(found)]))


def _describe_machine(found: Recommendation) -> list[str]:
    machine = found.machine
    threads = counted(machine.threads, "thread") if machine.threads else "a thread a core"
    rows = [("machine", f"{machine.processor}; {threads}"), ("memory", _free(machine.free_memory))]
    rows += [("GPU", _free(machine.free_gpu_memory))] if machine.gpu else []
    rows.append(("probe", f"{found.probe_seconds:.1f} s; close other programs for a better estimate"))
    return [f"{name:<9} {value}" for name, value in rows]


def _free(memory: int | None) -> str:
    return "not told by the system: nothing is left out" if memory is None else f"{size(memory)} free"


def _one_each(found: Recommendation) -> list[Candidate]:
    """Of each model the best scheme."""
    best: dict[str, Candidate] = {}
    for each in found.candidates:
        best.setdefault(each.model.repository, each)
    return list(best.values())


def _table(found: Recommendation) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("model", "scheme", "on", "on disk", "memory", "seconds", "HumanEval")]
    for each in _one_each(found):
        model = each.model
        marks = "*" * model.non_commercial + "+" * model.thinks
        seconds = "does not fit" if each.seconds is None else f"{each.seconds:.3g}"
        sizes = size(each.artifact_bytes), size(each.memory_bytes)
        score = model.scores.get("HumanEval")
        rows.append(
            (model.repository + marks, each.scheme, each.device, *sizes, seconds, "–" if score is None else f"{score}")
        )
    return rows


def _explain(found: Recommendation) -> list[str]:
    from dream_edge.recommendation.published import ASSUMED_TOKENS_PER_PASS

    shown = [each.model for each in _one_each(found)]
    stated = [model for model in shown if model.tokens_per_pass_source]
    return [
        f"Seconds are an estimate at {ASSUMED_TOKENS_PER_PASS:g} tokens a pass, which is an assumption but for "
        + "; ".join(f"{model.repository} ({model.tokens_per_pass_source})" for model in stated)
        + ".",
        "Scores are the authors'. Other schemes and what is measured: --json.",
        "* not for commercial use   + thinks before it answers, so an answer is many times as long",
    ]


def _advise(found: Recommendation) -> list[str]:
    best = found.best
    if best is None or best.seconds is None:
        smallest = found.candidates[0]
        return [
            f"No published model fits: the smallest takes {size(smallest.memory_bytes)}. Close other programs, or try "
            'the tiny one that is here: dream-edge generate tiny -p "What sound does the dog make?"'
        ]
    model = best.model
    license_ = model.license or "licence not known: see its card"
    late = "" if best.seconds <= found.patience else f", though not within {found.patience:g} s"
    return [
        f"Take {model.repository} as {best.scheme} ({model.purpose}; {license_}): about {best.seconds:.0f} s an answer"
        f"{late}, {size(best.download_bytes)} to download.",
        *(f"  {command}" for command in best.commands),
        'Exporting needs: pip install "dream-edge[export,hub]"',
    ]
