"""What computes the answers of a batch; reading, writing and resuming are the same whatever it is."""

from __future__ import annotations

from collections.abc import Generator
from typing import Protocol

from .answers import Answer
from .requests import Remaining


class Engine(Protocol):
    """A way to answer requests. A batch begun with one may be finished with another."""

    def answers(self, remaining: Remaining) -> Generator[Answer, None, None]:
        """An answer for each of the requests, in any order, as soon as it is there; an answer may come twice.

        Closing the generator ends the work. Nothing is done before the first answer is asked for.
        """
        ...
