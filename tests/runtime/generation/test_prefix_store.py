"""The store of finished blocks: what it finds, what it shares, what it lets go, and how much it ever holds."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from dream_edge_runtime.arrays import IntArray
from dream_edge_runtime.generation.prefix_store import PrefixStore, suggest_limit
from dream_edge_runtime.inference.network import KeyValues
from support.remembering import Snapshot

BLOCK = 4
SIZE = BLOCK * 16
"""Bytes of a whole block: a token and a position each."""


def text(*ids: int) -> IntArray:
    return np.array(ids, dtype=np.int64)


def values(ids: IntArray) -> Snapshot:
    """What a network would have computed of `ids`: nothing but themselves."""
    return Snapshot(ids, np.arange(len(ids)))


def keep(store: PrefixStore, ids: IntArray, offset: int = 0) -> None:
    store.keep(ids, offset, values(ids))


def found(store: PrefixStore, ids: IntArray, offset: int = 0) -> list[int]:
    """The tokens whose keys and values are found, checked to be those of the beginning of `ids`."""
    kept = store.find(ids, offset)
    if kept is None:
        return []
    assert isinstance(kept, Snapshot)
    assert kept.ids.tolist() == ids[: kept.count].tolist()
    assert kept.positions.tolist() == [*range(kept.count)]
    assert kept.count
    assert (kept.count + offset) % BLOCK == 0
    return [*kept.ids.tolist()]


def conversations(seed: int, count: int) -> Iterator[tuple[IntArray, int]]:
    """Random texts of whole blocks, many of which begin alike, and the offsets of their first blocks."""
    rng = np.random.default_rng(seed)
    prompts = [rng.integers(9, size=size * BLOCK) for size in (1, 2, 5)]
    for _ in range(count):
        offset = int(rng.choice([0, 0, 0, 1, 3]))
        parts = [prompts[rng.integers(3)], rng.integers(2, size=BLOCK * rng.integers(12))]
        yield np.concatenate(parts)[offset:], offset


def test_whole_blocks_that_are_equal_in_every_token_are_found() -> None:
    store = PrefixStore(BLOCK, 1 << 20)
    assert found(store, text(1, 2, 3, 4)) == []
    keep(store, text(1, 2, 3, 4, 5, 6, 7, 8))
    assert found(store, text(1, 2, 3, 4, 5, 6, 7, 8, 9, 9)) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert found(store, text(1, 2, 3, 4, 5, 6, 7, 0)) == [1, 2, 3, 4]
    assert found(store, text(1, 2, 3)) == []
    assert found(store, text(5, 6, 7, 8)) == []  # they stand elsewhere
    assert found(store, text(0, 2, 3, 4, 5, 6, 7, 8)) == []


def test_blocks_that_begin_before_the_first_token_are_others() -> None:
    store = PrefixStore(BLOCK, 1 << 20)
    keep(store, text(1, 2, 3, 4))
    keep(store, text(1, 5, 6, 7, 8), 3)
    assert found(store, text(1, 2, 3, 4), 3) == [1]
    assert found(store, text(1, 5, 6, 7, 8), 3) == [1, 5, 6, 7, 8]
    assert found(store, text(1, 5, 6, 7, 8), 0) == []
    assert found(store, text(1, 2, 3, 4), 1) == []


def test_texts_share_what_they_begin_with() -> None:
    store = PrefixStore(BLOCK, 1 << 20)
    system = text(*range(2 * BLOCK))
    for last in range(10):
        keep(store, np.append(system, [last] * BLOCK))
    assert (store.usage.blocks, store.usage.nbytes) == (2 + 10, 12 * SIZE)


def test_the_longest_unused_goes_first() -> None:
    store = PrefixStore(BLOCK, 4 * SIZE)
    first, second = text(*[1] * 8), text(*[2] * 8)
    keep(store, first)
    keep(store, second)
    assert len(found(store, first)) == 8  # and is thereby used
    keep(store, text(*[3] * 4))
    assert [len(found(store, each)) for each in (first, second)] == [8, 4]
    assert store.usage.evicted == 1
    assert store.usage.nbytes == store.usage.limit == 4 * SIZE


def test_room_is_made_of_other_texts() -> None:
    """Also of one used more recently than the text that goes on."""
    store = PrefixStore(BLOCK, 4 * SIZE)
    keep(store, np.arange(8))
    keep(store, text(*[9] * 8))
    keep(store, np.arange(12))
    assert found(store, np.arange(12)) == [*range(12)]
    assert found(store, text(*[9] * 8)) == [9] * 4


def test_a_text_that_is_too_long_keeps_its_beginning() -> None:
    store = PrefixStore(BLOCK, 3 * SIZE + 1)
    keep(store, text(9, 9, 9, 9))
    ids = np.arange(40)
    for length in range(BLOCK, 44, BLOCK):  # block by block, as a generation does
        keep(store, ids[:length])
    assert found(store, ids) == [*range(12)]
    assert found(store, text(9, 9, 9, 9)) == []
    assert store.usage.nbytes == 3 * SIZE


def test_a_store_without_room_keeps_nothing() -> None:
    store = PrefixStore(BLOCK, SIZE - 1)
    keep(store, np.arange(8))
    assert found(store, np.arange(8)) == []
    assert store.usage.nbytes == store.usage.blocks == store.usage.evicted == 0


def test_what_went_while_a_text_was_written_is_kept_again() -> None:
    store = PrefixStore(BLOCK, 3 * SIZE)
    ids = np.arange(12)
    keep(store, ids[:8])
    keep(store, text(*[9] * 12))
    assert found(store, ids) == []
    keep(store, ids)
    assert found(store, ids) == [*range(12)]


def test_what_is_found_stays_whole_when_its_blocks_go() -> None:
    store = PrefixStore(BLOCK, 2 * SIZE)
    keep(store, np.arange(8))
    kept = store.find(np.arange(8), 0)
    keep(store, text(*[9] * 8))
    assert isinstance(kept, Snapshot)
    assert kept.ids.tolist() == [*range(8)]
    assert found(store, np.arange(8)) == []


@pytest.mark.parametrize("limit", [0, 3 * SIZE, 40 * SIZE, 400 * SIZE, 1 << 30])
def test_a_thousand_conversations_stay_within_the_limit(limit: int) -> None:
    """Beside a plain list of everything ever kept, out of which goes what was used longest ago."""
    store, held = PrefixStore(BLOCK, limit), 0
    used: dict[tuple[int, tuple[int, ...]], int] = {}
    for clock, (ids, offset) in enumerate(conversations(limit, 1000)):
        stops = range(BLOCK - offset, len(ids) + 1, BLOCK)
        path = [(offset, tuple(ids[:stop].tolist())) for stop in stops]
        there = [each for each in path if each in used]
        assert len(found(store, ids, offset)) == (len(there[-1][1]) if there else 0)
        used |= dict.fromkeys(there, clock)
        for each in path:  # shorter ones first
            held += 0 if each in used else bytes_of(each)
            used[each] = clock
            while held > limit:
                oldest = min(used, key=lambda each: (used[each], -len(each[1])))
                held -= bytes_of(oldest)
                del used[oldest]
        keep(store, ids, offset)
        assert store.usage.nbytes == held <= limit
        assert store.usage.blocks == len(used)


def bytes_of(block: tuple[int, tuple[int, ...]]) -> int:
    """Of the last block of a text: the first may be shorter."""
    return 16 * min(BLOCK, len(block[1]))


def test_threads_share_it() -> None:
    """Eight of them keep, find and displace each other's blocks; what each finds is its own, and the sums are right."""
    store = PrefixStore(BLOCK, 30 * SIZE)

    def work(seed: int) -> int:
        count = 0
        for ids, offset in conversations(seed % 2, 300):
            for stop in range(BLOCK - offset, len(ids) + 1, BLOCK):
                keep(store, ids[:stop], offset)
                assert store.usage.nbytes <= 30 * SIZE
            count += len(found(store, ids, offset))
        return count

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))
    usage = store.usage
    keep(store, text(*[99] * 30 * BLOCK))  # displaces all that can be displaced
    assert store.usage.blocks == 30
    assert store.usage.nbytes == 30 * SIZE
    assert store.usage.evicted == usage.evicted + usage.blocks


class Broken(Snapshot):
    """Keys and values of which only the first block can be copied."""

    def cut(self, start: int, stop: int) -> Snapshot:
        if start:
            raise MemoryError
        return super().cut(start, stop)


def test_a_copy_that_fails_leaves_it_whole() -> None:
    store = PrefixStore(BLOCK, 2 * SIZE)
    ids = np.arange(12)
    broken: KeyValues = Broken(ids, ids)
    with pytest.raises(MemoryError):
        store.keep(ids, 0, broken)
    assert found(store, ids) == [0, 1, 2, 3]
    assert store.usage.nbytes == SIZE
    keep(store, text(*[9] * 8))
    assert found(store, ids) == []
    assert store.usage.nbytes == 2 * SIZE


@pytest.mark.parametrize(
    ("free", "limit"), [(None, 10**9), (0, 0), (8 * 10**9, 2 * 10**9), (10**12, 4 * 10**9), (7, 1)]
)
def test_the_limit_comes_from_the_free_memory(free: int | None, limit: int) -> None:
    assert suggest_limit(free) == limit
