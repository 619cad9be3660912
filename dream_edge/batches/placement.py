"""How many workers, and with how many threads each, find room on the machines of a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from .errors import NoRoomOnCluster


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What a machine has to give: processors, GPUs, bytes of memory."""

    cpus: float
    gpus: float
    memory: float

    def __str__(self) -> str:
        gpus = f", {self.gpus:g} GPU" if self.gpus else ""
        return f"{self.cpus:g} CPU{gpus}, {self.memory / 1e9:.1f} GB"


@dataclass(frozen=True, kw_only=True)
class Worker:
    """What one worker takes: a processor for each thread, whole GPUs, bytes of memory (0 = not counted)."""

    threads: int
    gpus: int
    memory: int

    def count_on(self, machine: Machine) -> int:
        """How many such workers `machine` has room for."""
        most = machine.cpus // self.threads
        if self.gpus:
            most = min(most, machine.gpus // self.gpus)
        if self.memory:
            most = min(most, machine.memory // self.memory)
        return int(most)

    def __str__(self) -> str:
        gpus = f", {self.gpus} GPU" if self.gpus else ""
        memory = f", {self.memory / 1e9:.1f} GB" if self.memory else ""
        return f"{self.threads} thread{'s' * (self.threads > 1)}{gpus}{memory} each"


@dataclass(frozen=True)
class Placement:
    """So many workers of one kind."""

    workers: int
    each: Worker


def place(
    machines: Sequence[Machine], *, workers: int | None, threads: int | None, gpus: int, memory: int
) -> Placement:
    """Find room for `workers`: by default one on each machine that can hold one, or one for each GPU.

    They get `threads` each, by default as many as there is room for.

    Raises:
        NoRoomOnCluster: there is less.
    """
    least = Worker(threads=threads or 1, gpus=gpus, memory=memory)
    room = [least.count_on(machine) for machine in machines]
    count = workers or (sum(room) if gpus else sum(each > 0 for each in room))
    if not 0 < count <= sum(room):
        raise NoRoomOnCluster(f"{max(count, 1)} workers of {least}", [str(machine) for machine in machines])
    if threads is not None:
        return Placement(count, least)
    most = int(max(machine.cpus for machine in machines))
    wider = (replace(least, threads=number) for number in range(most, 0, -1))
    return Placement(count, next(each for each in wider if sum(map(each.count_on, machines)) >= count))
