"""Keys and values of finished blocks, kept for texts to come: the next turn of a conversation computes what is new.

Blocks form a tree, each filed under its own tokens after the block before it, so that texts share what they begin with.
What is found belongs to exactly the tokens asked about; nothing is hashed down to a number that others could have too.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..arrays import IntArray
from ..inference.network import KeyValues

_MOST_BYTES = 4_000_000_000


@dataclass(frozen=True)
class StoreUsage:
    """What a `PrefixStore` holds."""

    blocks: int
    nbytes: int
    limit: int
    """Bytes it may hold."""
    evicted: int
    """Blocks that had to make room for others since it was made."""


@dataclass(eq=False)
class _Block:
    """One finished block, where it is filed, and the blocks that have come after it."""

    key_values: KeyValues
    siblings: dict[bytes, _Block]
    tokens: bytes
    following: dict[bytes, _Block] = field(default_factory=dict)


class PrefixStore:
    """Finished blocks of the texts of one network, up to `limit` bytes; the longest unused go first.

    Shared by threads. What is handed out stays whole, whatever goes meanwhile.

    Args:
        block: positions in a block of the network.
        limit: bytes. A text that is longer than all of it keeps its beginning.
    """

    def __init__(self, block: int, limit: int) -> None:
        self._block, self._limit = block, limit
        self._first: list[dict[bytes, _Block]] = [{} for _ in range(block)]  # by the offset
        self._unused: OrderedDict[_Block, None] = OrderedDict()  # the longest first, and none before what follows it
        self._held = self._evicted = 0
        self._lock = threading.Lock()

    @property
    def usage(self) -> StoreUsage:
        with self._lock:
            return StoreUsage(len(self._unused), self._held, self._limit, self._evicted)

    def find(self, ids: IntArray, offset: int) -> KeyValues | None:
        """See `BlockStore`."""
        with self._lock:
            path = self._walk(ids, offset)
            self._use(path)
        if not path:
            return None
        first, *others = (each.key_values for each in path)
        return first.append(*others)

    def keep(self, ids: IntArray, offset: int, key_values: KeyValues) -> None:
        """See `BlockStore`."""
        with self._lock:
            path = self._walk(ids, offset)
            self._use(path)  # so that room is made of other texts
            for start, stop in list(self._bounds(len(ids), offset))[len(path) :]:
                made = key_values.cut(start, stop)
                if not self._make_room(made.nbytes, sparing=path):
                    break
                siblings = path[-1].following if path else self._first[offset]
                path.append(_Block(made, siblings, ids[start:stop].tobytes()))
                siblings[path[-1].tokens] = path[-1]
                self._held += made.nbytes
                self._use(path)

    def _bounds(self, length: int, offset: int) -> Iterator[tuple[int, int]]:
        """Where the whole blocks among the first `length` positions begin and end."""
        stops = range(self._block - offset, length + 1, self._block)
        return ((max(0, stop - self._block), stop) for stop in stops)

    def _walk(self, ids: IntArray, offset: int) -> list[_Block]:
        """As many blocks of `ids` as there are, from its beginning."""
        path: list[_Block] = []
        siblings = self._first[offset]
        for start, stop in self._bounds(len(ids), offset):
            found = siblings.get(ids[start:stop].tobytes())
            if found is None:
                break
            path.append(found)
            siblings = found.following
        return path

    def _use(self, path: list[_Block]) -> None:
        for each in reversed(path):  # so that none goes before those that follow it
            self._unused[each] = None
            self._unused.move_to_end(each)

    def _make_room(self, nbytes: int, sparing: list[_Block]) -> bool:
        """Let blocks go until `nbytes` more fit; false where that would take one of those to spare."""
        while self._held + nbytes > self._limit:
            oldest = next(iter(self._unused), None)
            if oldest is None or oldest in sparing:
                return False
            del self._unused[oldest], oldest.siblings[oldest.tokens]
            self._held -= oldest.key_values.nbytes
            self._evicted += 1
        return True


def suggest_limit(free: int | None) -> int:
    """Bytes for a store where so many are free: a quarter of them, at most 4 GB."""
    return _MOST_BYTES // 4 if free is None else min(free // 4, _MOST_BYTES)
