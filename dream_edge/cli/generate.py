"""`dream-edge generate`."""

from __future__ import annotations

from typing import Annotated

import typer

from . import options as given
from .terminal.io import print_json, print_text, read_stdin
from .terminal.run import note_statistics, to_json, watch


def generate(
    artifact: given.ArtifactArgument,
    prompt: Annotated[
        str, typer.Option("--prompt", "-p", metavar="TEXT", help='What to answer or continue; "-" reads stdin.')
    ],
    max_new_tokens: Annotated[
        int, typer.Option("--max-new-tokens", "-n", metavar="N", min=1, help="Tokens to generate.")
    ] = 128,
    stop: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="Cut the text before this. May be repeated.")
    ] = None,
    end_with: Annotated[
        str, typer.Option(metavar="TEXT", help="Fix the last tokens and write towards them.", show_default=False)
    ] = "",
    raw: Annotated[bool, typer.Option("--raw", help="Continue the prompt as it is, without chat template.")] = False,
    bos: Annotated[bool, typer.Option("--bos", help="With --raw: begin with the bos token.")] = False,
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
    grow_from: given.GrowFrom = None,
    stop_at_end: given.StopAtEnd = False,
    exact: given.Exact = False,
    visual: given.Visual = False,
    json: given.Json = False,
    threads: given.Threads = None,
    device: given.DeviceChoice = given.Device.AUTO,
    as_int8: given.AsInt8 = False,
    no_memory_check: given.NoMemoryCheck = False,
) -> None:
    """Answer a prompt, or continue a text (--raw).

    How tokens are chosen is up to the checkpoint's generation_config.json, but for the options you name. The text goes
    to stdout, progress and statistics to stderr.
    """
    settings = given.sampling(
        max_new_tokens=max_new_tokens,
        stop=tuple(stop or ()),
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
        grow_from=grow_from,
        stop_at_end=stop_at_end or None,
        exact=exact,
    )
    text = prompt
    if prompt == "-":
        text = read_stdin() if raw else read_stdin().removesuffix("\n")
    model = given.load_model(
        artifact,
        device=device,
        threads=threads,
        as_int8=as_int8,
        no_memory_check=no_memory_check,
    )
    generation = watch(
        lambda cancel: model.stream(text, raw=raw, bos=bos, end_with=end_with, cancel=cancel, **settings),
        model.tokenizer,
        visual=visual,
    )
    if json:
        print_json(to_json(generation))
    else:
        print_text(generation.text)
        note_statistics(generation)
