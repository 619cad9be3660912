"""Exports that are killed, and what they leave: `python -m support.killed HOW CHECKPOINT DIRECTORY COUNT` prints JSON.

A process of its own that imports everything once and then forks, since PyTorch takes seconds to import and its threads
do not survive a fork. This process itself never uses them.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dream_edge_export import export as export_module
from dream_edge_export.checkpoint.checkpoint import Checkpoint
from dream_edge_export.export import export
from dream_edge_runtime.artifact import Artifact
from dream_edge_runtime.errors import ArtifactError
from dream_edge_runtime.format.recipe import Recipe

OPERATIONS = ("mkdir", "open", "write", "ftruncate", "fsync", "replace", "rmdir", "unlink")
"""What an export does to the disk, by the names of the functions in `os`."""


def main(how: str, checkpoint: str, directory: str, count: str) -> None:
    trial = {"at_random": at_random, "at_operations": at_operations}[how]
    json.dump(trial(Path(checkpoint), Path(directory), int(count)), sys.stdout)


def at_random(checkpoint: Path, directory: Path, count: int) -> dict[str, Any]:
    """Kill `count` exports, each at a random moment, and run each again undisturbed."""
    out = directory / "out"
    start = time.perf_counter()
    wait_for(forked(checkpoint, out))
    duration = time.perf_counter() - start
    expected = digests(out)
    chance = random.Random(0)
    killed, same, loading = 0, [], []
    while killed < count:
        shutil.rmtree(out)
        child = forked(checkpoint, out)
        time.sleep(chance.random() * duration)
        os.kill(child, signal.SIGKILL)
        if wait_for(child) == 0:
            continue
        killed += 1
        loading += unsound(directory, [expected])
        wait_for(forked(checkpoint, out))
        same.append(digests(out) == expected and left(directory) == ["out"])
    return {"killed": killed, "same": same, "loading": loading}


def at_operations(checkpoint: Path, directory: Path, stride: int) -> dict[str, Any]:
    """Kill replacements of an int8 artifact before operations on the disk: each `stride`-th, and the last twenty."""
    out, old = directory / "out", directory / "old"
    wait_for(forked(checkpoint, old, scheme="int8"))
    shutil.copytree(old, out)
    counted = directory / "count"
    wait_for(forked(checkpoint, out, prepare=lambda: count_operations(counted)))
    total, expected = int(counted.read_text("utf-8")), digests(out)
    counted.unlink()
    same, loading, missing = [], [], 0
    for number in [n for n in range(1, total + 1) if n % stride == 0 or n > total - 20]:
        shutil.rmtree(out)
        shutil.copytree(old, out)
        killed = wait_for(forked(checkpoint, out, prepare=lambda number=number: die_before(number)))  # type: ignore[misc]
        loading += unsound(directory, [expected, digests(old)])
        missing += not out.exists()
        wait_for(forked(checkpoint, out))
        same.append(killed == signal.SIGKILL and digests(out) == expected and left(directory) == ["old", "out"])
    return {"total": total, "same": same, "loading": loading, "missing": missing}


def forked(checkpoint: Path, out: Path, *, scheme: str = "int4", prepare: Callable[[], object] = lambda: None) -> int:
    """A process that replaces `out`, writing a line of the journal for every weight."""
    child = os.fork()
    if child:
        return child
    try:
        export_module.JOURNAL_EVERY = 0
        prepare()
        export(Checkpoint.open(checkpoint), out, Recipe.for_scheme(scheme), force=True)
        os._exit(0)
    except BaseException as error:
        sys.stderr.write(f"{error!r}\n")
        os._exit(1)


def wait_for(child: int) -> int:
    """How the child ended: 0, or the signal that killed it; anything else is an error of ours."""
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        return os.WTERMSIG(status)
    if os.WEXITSTATUS(status):
        raise RuntimeError("an export failed by itself")
    return 0


def count_operations(result: Path) -> None:
    """Have the number of operations in file `result` at the end, which is when a lock's directory goes."""
    counter = on_operation(lambda _: None)
    write_text = result.write_text
    rmdir = os.rmdir

    def last(path: Any, *rest: Any, **named: Any) -> None:
        rmdir(path, *rest, **named)
        if str(path).endswith(".partial"):
            write_text(str(next(counter)))

    os.rmdir = last


def die_before(number: int) -> None:
    def check(count: int) -> None:
        if count == number:
            os.kill(os.getpid(), signal.SIGKILL)

    on_operation(check)


def on_operation(call: Callable[[int], None]) -> Iterator[int]:
    """Call `call` with the number of each operation before it is done. The iterator gives how many there were."""
    done = 0

    def counting(original: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **named: Any) -> Any:
            nonlocal done
            done += 1
            call(done)
            return original(*arguments, **named)

        return counted

    for name in OPERATIONS:
        setattr(os, name, counting(getattr(os, name)))
    return iter(lambda: done, -1)


def unsound(directory: Path, sound: list[dict[str, str]]) -> list[str]:
    """What opens as an artifact in or under `directory` and is none of the `sound` ones."""
    found = []
    for path in sorted(each for each in directory.rglob("*") if each.is_dir()):
        try:
            Artifact.open(path)
        except ArtifactError:
            continue
        if digests(path) not in sound:
            found.append(str(path))
    return found


def digests(directory: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in directory.iterdir()}


def left(directory: Path) -> list[str]:
    return sorted(entry.name for entry in directory.iterdir())


if __name__ == "__main__":
    main(*sys.argv[1:])
