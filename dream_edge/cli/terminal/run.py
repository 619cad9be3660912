"""Run a generation in a thread of its own, so that Ctrl-C is heard during a pass, and show how it comes about."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from dream_edge_runtime.host import peak_memory
from dream_edge_runtime.units import counted, size

from .display import open_display
from .io import note

if TYPE_CHECKING:
    from dream_edge_runtime.generation.denoising import Denoising
    from dream_edge_runtime.generation.results import Generation, Step
    from dream_edge_runtime.text.tokenizer import Tokenizer

_POLL_SECONDS = 0.1  # Windows hears Ctrl-C only between two waits


def watch(
    begin: Callable[[threading.Event], Denoising], tokenizer: Tokenizer, *, visual: bool = False, pace: float = 0.0
) -> Generation:
    """Show the generation that `begin` starts, until it ends. `begin` is given the event that cancels it.

    `pace`: see `open_display`.

    Ctrl-C stops the generation within a step, and is then raised as KeyboardInterrupt.
    """
    cancel = threading.Event()
    denoising = begin(cancel)  # in this thread: bad arguments are reported before anything is drawn
    steps: queue.SimpleQueue[Step | None] = queue.SimpleQueue()
    errors: list[BaseException] = []

    def work() -> None:
        try:
            for step in denoising:
                steps.put(step)
        except BaseException as error:  # raised again in the thread that waits
            errors.append(error)
        finally:
            steps.put(None)

    worker = threading.Thread(target=work, name="dream-edge-generation", daemon=True)
    with open_display(tokenizer, visual=visual, pace=pace) as display:
        worker.start()
        try:
            while (step := _next(steps)) is not None:
                display.show(step)
        finally:
            cancel.set()
            worker.join()
    if errors:
        raise errors[0]
    return denoising.result()


def _next(steps: queue.SimpleQueue[Step | None]) -> Step | None:
    while True:
        try:
            return steps.get(timeout=_POLL_SECONDS)
        except queue.Empty:
            continue


def note_statistics(generation: Generation) -> None:
    """The closing line of statistics, on stderr."""
    peak = peak_memory()
    parts = [
        f"{counted(generation.steps, 'step')} ({counted(generation.passes, 'pass', 'passes')}) "
        f"in {generation.seconds:.2f} s",
        counted(generation.new_tokens, "token"),
        f"{generation.tokens_per_second:.1f} tokens/s",
        *([f"peak memory {size(peak)}"] if peak else []),
        f"seed {generation.seed}",
    ]
    note(" · ".join(parts))


def to_json(generation: Generation) -> dict[str, Any]:
    """The fields of a result and what follows from them."""
    values = {field.name: getattr(generation, field.name) for field in fields(generation) if field.name != "history"}
    return values | {"tokens_per_second": generation.tokens_per_second, "peak_memory_bytes": peak_memory()}
