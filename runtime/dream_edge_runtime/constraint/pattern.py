"""What a text must look like, as a tree: characters, one part after the other, one of several, repeated."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

Ranges = tuple[tuple[int, int], ...]
"""First and last code point of each range, both inside; ascending, without overlap."""
ByteRange = tuple[int, int]

SURROGATES = (0xD800, 0xDFFF)
LARGEST = 0x10FFFF
LEAST_COUNTED, MOST_COUNTED = 16, 1 << 16
"""Repetitions that are counted: fewer are as well written out, and more characters no text has."""


@dataclass(frozen=True)
class Chars:
    """One character of a set. An empty set matches nothing."""

    ranges: Ranges


@dataclass(frozen=True)
class Sequence:
    """One part after the other; without any, the empty text."""

    parts: tuple[Pattern, ...] = ()


@dataclass(frozen=True)
class Either:
    """One of `options`."""

    options: tuple[Pattern, ...]


@dataclass(frozen=True)
class Repeat:
    """`part`, `least` to `most` times (None: any number), with `separator` between each and the next."""

    part: Pattern
    least: int = 0
    most: int | None = None
    separator: Pattern = Sequence()

    @property
    def is_counted(self) -> bool:
        """Whether what may follow the first `least` is one copy with a count, rather than copies: where each of many is
        a few characters."""
        many = self.most is not None and self.most - self.least >= LEAST_COUNTED and self.most <= MOST_COUNTED
        return many and self.separator == Sequence() and _is_plain(self.part)

    def count_copies(self, *, counted: bool) -> int:
        """How many copies of `part` are written out, before the one that is `counted`, if it is."""
        return max(1, self.least) if counted or self.most is None else self.most


@dataclass(frozen=True)
class Selection:
    """`parts` in this order, at least one, with `separator` between each and the next; only those `needed` must be."""

    parts: tuple[Pattern, ...]
    needed: tuple[bool, ...]
    separator: Pattern


Pattern = Chars | Sequence | Either | Repeat | Selection


def _is_plain(pattern: Pattern) -> bool:
    """Whether it is characters, in a row or one of several, and never empty."""
    if isinstance(pattern, Sequence | Either):
        within = pattern.parts if isinstance(pattern, Sequence) else pattern.options
        return bool(within) and all(map(_is_plain, within))
    return isinstance(pattern, Chars)


def literal(text: str) -> Sequence:
    """Just `text`."""
    return Sequence(tuple(Chars(((ord(character), ord(character)),)) for character in text))


def sequence(*parts: Pattern | str) -> Sequence:
    """`parts` in this order; text is a `literal`."""
    return Sequence(tuple(literal(part) if isinstance(part, str) else part for part in parts))


def either(*options: Pattern | str) -> Either:
    """One of `options`; text is a `literal`."""
    return Either(tuple(literal(option) if isinstance(option, str) else option for option in options))


def optional(part: Pattern | str) -> Pattern:
    """`part`, or nothing."""
    return either(part, "")


def chars(*ranges: tuple[str, str] | str) -> Chars:
    """One character of `ranges`: each a first and a last character, or a text of single ones."""
    pairs = [(ord(each[0]), ord(each[1])) for each in ranges if isinstance(each, tuple)]
    pairs += [(ord(character), ord(character)) for each in ranges if isinstance(each, str) for character in each]
    return Chars(normalize(pairs))


def normalize(pairs: list[tuple[int, int]]) -> Ranges:
    """`pairs` in order, joined where they touch, without surrogates, which no text has."""
    merged: list[tuple[int, int]] = []
    for low, high in sorted(pairs):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], high))
        elif low <= high:
            merged.append((low, high))
    first, last = SURROGATES
    split = [part for low, high in merged for part in ((low, min(high, first - 1)), (max(low, last + 1), high))]
    return tuple((low, high) for low, high in split if low <= high)


def complement(ranges: Ranges) -> Ranges:
    """All characters but those of `ranges`."""
    edges = [-1, *(edge for pair in ranges for edge in pair), LARGEST + 1]
    return normalize([(low + 1, high - 1) for low, high in zip(edges[::2], edges[1::2], strict=True)])


@cache
def spell_ranges(ranges: Ranges) -> tuple[tuple[ByteRange, ...], ...]:
    """The characters of `ranges` in UTF-8: sequences of ranges of bytes."""
    return tuple(spelling for low, high in ranges for spelling in _spell(low, high))


def _spell(low: int, high: int) -> Iterator[tuple[ByteRange, ...]]:
    """Split where the number of bytes changes, and so that each byte may be any of its range whatever the others."""
    for last in (0x7F, 0x7FF, 0xFFFF):
        if low <= last < high:
            yield from _spell(low, last)
            yield from _spell(last + 1, high)
            return
    first, final = chr(low).encode(), chr(high).encode()
    for bits in range(6, 6 * len(first), 6):
        mask = (1 << bits) - 1
        if low & ~mask != high & ~mask:
            if low & mask:
                yield from _spell(low, low | mask)
                yield from _spell((low | mask) + 1, high)
                return
            if high & mask != mask:
                yield from _spell(low, (high & ~mask) - 1)
                yield from _spell(high & ~mask, high)
                return
    yield tuple(zip(first, final, strict=True))
