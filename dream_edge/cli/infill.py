"""`dream-edge infill`."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Annotated

import typer

from . import options as given
from .terminal.io import print_json, print_text
from .terminal.run import note_statistics, to_json, watch

if TYPE_CHECKING:
    from dream_edge_runtime.generation.denoising import Denoising


def infill(
    artifact: given.ArtifactArgument,
    prefix: Annotated[str | None, typer.Option(metavar="TEXT", help="What stands before the hole.")] = None,
    suffix: Annotated[str | None, typer.Option(metavar="TEXT", help="What stands after it.")] = None,
    length: Annotated[int | None, typer.Option(metavar="N", min=1, help="Size of the hole in tokens.")] = None,
    template: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help='Text with holes anywhere, sizes in tokens: "The [[2]] sat on the [[1]]."'),
    ] = None,
    bos: Annotated[bool, typer.Option("--bos", help="Begin with the bos token.")] = False,
    steps: given.Steps = None,
    alg: given.Alg = None,
    temperature: given.Temperature = None,
    top_p: given.TopP = None,
    top_k: given.TopK = None,
    alg_temp: given.AlgTemp = None,
    eps: given.Eps = None,
    eos_penalty: given.EosPenalty = None,
    seed: given.Seed = None,
    threshold: given.Threshold = None,
    factor: given.Factor = None,
    entropy_bound: given.EntropyBound = None,
    sched: given.Sched = None,
    local_leap: given.LocalLeap = None,
    klass: given.Klass = None,
    block_length: given.BlockLength = None,
    cache: given.Cache = None,
    suffix_window: given.SuffixWindow = None,
    max_hole_tokens: given.MaxHoleTokens = None,
    exact: given.Exact = False,
    visual: given.Visual = False,
    json: given.Json = False,
    threads: given.Threads = None,
    device: given.DeviceChoice = given.Device.AUTO,
    as_int8: given.AsInt8 = False,
    no_memory_check: given.NoMemoryCheck = False,
) -> None:
    """Fill holes in a text.

    Give --length with --prefix and --suffix, or --template. The whole text goes to stdout, holes filled.
    """
    if (template is None) == (length is None):
        raise typer.BadParameter("give either --length (with --prefix and --suffix) or --template")
    if template is not None and (prefix is not None or suffix is not None):
        raise typer.BadParameter("a template holds the whole text: no --prefix, no --suffix", param_hint="--template")
    settings = given.sampling(
        steps=steps,
        alg=alg,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        alg_temp=alg_temp,
        eps=eps,
        eos_penalty=eos_penalty,
        seed=seed,
        threshold=threshold,
        factor=factor,
        entropy_bound=entropy_bound,
        sched=sched,
        local_leap=local_leap,
        klass=klass,
        block_length=block_length,
        cache=cache,
        suffix_window=suffix_window,
        max_hole_tokens=max_hole_tokens,
        exact=exact,
    )
    model = given.load_model(
        artifact,
        device=device,
        threads=threads,
        as_int8=as_int8,
        no_memory_check=no_memory_check,
    )

    def begin(cancel: threading.Event) -> Denoising:
        if length is None:
            return model.stream_fill(template or "", bos=bos, cancel=cancel, **settings)
        return model.stream_infill(prefix or "", suffix or "", length, bos=bos, cancel=cancel, **settings)

    generation = watch(begin, model.tokenizer, visual=visual)
    if json:
        print_json(to_json(generation))
    else:
        print_text(generation.text)
        note_statistics(generation)
