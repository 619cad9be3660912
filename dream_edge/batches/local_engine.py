"""The engine for one machine: one model in this process, one request after the other."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass

from dream_edge_runtime.model import DreamModel

from .answers import Answer, answer
from .requests import Remaining, parse


@dataclass(frozen=True)
class LocalEngine:
    """Answers in the order of the requests.

    Attributes:
        load: gives the model; not called where nothing is left to do.
        served: its name, the only one that requests may ask for.
    """

    load: Callable[[], DreamModel]
    served: str

    def answers(self, remaining: Remaining) -> Generator[Answer, None, None]:
        """See `Engine`."""
        model = self.load()
        for number, data in remaining:
            yield answer(model, self.served, parse(number, data))
