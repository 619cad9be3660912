"""From a regular expression to the pattern it means: Python's own syntax, in Python's own reading."""

from __future__ import annotations

import re
import re._compiler as compiler  # type: ignore[import-not-found]
import re._constants as node  # type: ignore[import-not-found]
import re._parser as parser  # type: ignore[import-not-found]
from collections.abc import Sequence as Items
from functools import cache, lru_cache
from typing import Any

from .errors import ConstraintTooLarge, InvalidRegex
from .pattern import LARGEST, Chars, Either, Pattern, Ranges, Repeat, Sequence, complement, normalize

LONGEST = 1 << 14
"""Characters of a regular expression; reading one takes about a millisecond a thousand."""
ANYTHING: Repeat = Repeat(Chars(complement(())))
"""Any text."""
WIDEST = 1 << 22
"""Characters, of the first 65,536, in the ranges of all classes with the flag i; a class itself counts as 8,000."""

_ENDS = {node.AT_BEGINNING: True, node.AT_BEGINNING_STRING: True, node.AT_END: False, node.AT_END_STRING: False}
_REFUSED = {
    node.ASSERT: "(?=…) and (?<=…) look beyond the text they match",
    node.ASSERT_NOT: "(?!…) and (?<!…) look beyond the text they match",
    node.AT: r"^, $, \A and \Z stand at the beginning or the end of the whole, and \b and \B nowhere",
    node.ATOMIC_GROUP: "(?>…) takes part of the matches away",
    node.GROUPREF: r"\1 and (?P=name) repeat what another part matched",
    node.GROUPREF_EXISTS: "(?(1)…) depends on what another part matched",
    node.POSSESSIVE_REPEAT: "*+, ++ and ?+ take part of the matches away",
}


def read_regex(regex: str, *, search: bool = False) -> Pattern:
    r"""The texts that `regex` matches: as a whole, as `re.fullmatch` would, or with `search` anywhere, as `re.search`.

    Everything of Python's syntax that a finite automaton can read: no look-around, no references to groups, no word
    boundaries. A search is that of JSON Schema, whose expressions have no flag i.

    Raises:
        InvalidRegex: it is none, or has what no automaton can read.
        ConstraintTooLarge: it is too long, or has too many classes with the flag i.
    """
    if not isinstance(regex, str):
        raise InvalidRegex(str(regex), "it must be text")
    if len(regex) > LONGEST:
        raise ConstraintTooLarge(f"a regular expression of {len(regex):,} characters, where {LONGEST:,} are the most")
    try:
        parsed = parser.parse(regex)
        return _Reader(regex, parsed.state.flags, search).read_whole(list(parsed))
    except re.error as error:
        raise InvalidRegex(regex, f"it is no regular expression ({error})") from None
    except (RecursionError, OverflowError):
        raise ConstraintTooLarge("a regular expression that is nested too deep") from None


class _Reader:
    """Reads what Python's parser makes of `regex`."""

    def __init__(self, regex: str, flags: int, search: bool) -> None:
        self._regex, self._flags, self._search = regex, flags, search
        self._room = WIDEST

    def read_whole(self, items: list[tuple[Any, Any]]) -> Pattern:
        """All of it. What stands at its beginning or end may say so; where it does not, a search goes on."""
        if len(items) == 1 and items[0][0] is node.BRANCH:
            return Either(tuple(self.read_whole(list(each)) for each in items[0][1][1]))
        if len(items) == 1 and items[0][0] is node.SUBPATTERN and not items[0][1][1] and not items[0][1][2]:
            return self.read_whole(list(items[0][1][3]))
        begins = ends = not self._search
        while items and items[0][0] is node.AT and _ENDS.get(items[0][1]) is True:
            items, begins = items[1:], True
        while items and items[-1][0] is node.AT and _ENDS.get(items[-1][1]) is False:
            items, ends = items[:-1], True
        before, after = ([] if fixed else [ANYTHING] for fixed in (begins, ends))
        return Sequence((*before, self._read(items, self._flags), *after))

    def _read(self, items: Items[tuple[Any, Any]], flags: int) -> Pattern:
        return Sequence(tuple(self._read_item(kind, value, flags) for kind, value in items))

    def _read_item(self, kind: Any, value: Any, flags: int) -> Pattern:
        if kind in (node.MAX_REPEAT, node.MIN_REPEAT):
            least, most, items = value
            return Repeat(self._read(items, flags), least, None if most is node.MAXREPEAT else most)
        if kind is node.SUBPATTERN:
            _, added, removed, items = value
            kept = flags & ~parser.TYPE_FLAGS if added & parser.TYPE_FLAGS else flags  # a and u exclude each other
            return self._read(items, (kept | added) & ~removed)
        if kind is node.BRANCH:
            return Either(tuple(self._read(each, flags) for each in value[1]))
        if kind in _REFUSED:
            raise InvalidRegex(self._regex, f"{_REFUSED[kind]}, which no automaton can read")
        ranges = self._read_set([(kind, value)], flags)
        return Chars(self._ignore_case(kind, value, flags, ranges) if flags & re.IGNORECASE else ranges)

    def _ignore_case(self, kind: Any, value: Any, flags: int, ranges: Ranges) -> Ranges:
        """What an item of `ranges` matches with the flag i."""
        if self._search:
            raise InvalidRegex(self._regex, "the flag i is none of JSON Schema's: write [aA] for both cases")
        if kind is node.IN:
            widths = (min(pair[1], 0xFFFF) - pair[0] for each, pair in value if each is node.RANGE)
            self._room -= 8000 + sum(width for width in widths if width > 0)
            if self._room < 0:
                raise ConstraintTooLarge("a regular expression with many classes of characters and the flag i")
            value = tuple(value)
        edges = {edge for low, high in ranges for edge in (low, high + 1)}
        for code in _find_changed(kind, value, flags):
            edges ^= {code, code + 1}
        found = sorted(edges)
        return tuple((low, end - 1) for low, end in zip(found[::2], found[1::2], strict=True))

    def _read_set(self, items: Items[tuple[Any, Any]], flags: int) -> Ranges:
        """The characters of a class in brackets, or of what stands for one character alone."""
        pairs: list[tuple[int, int]] = []
        negated = False
        for kind, value in items:
            if kind is node.NEGATE:
                negated = True
            elif kind is node.LITERAL:
                pairs.append((value, value))
            elif kind is node.RANGE:
                pairs.append(value)
            elif kind is node.NOT_LITERAL:
                pairs += complement(((value, value),))
            elif kind is node.ANY:
                pairs += complement(() if flags & re.DOTALL else ((ord("\n"), ord("\n")),))
            elif kind is node.CATEGORY:
                pairs += read_category(str(value), bool(flags & re.ASCII))
            elif kind is node.IN:
                pairs += self._read_set(value, flags)
            else:
                raise InvalidRegex(self._regex, f"{kind} is not read")
        ranges = normalize(pairs)
        return complement(ranges) if negated else ranges


@cache
def read_category(name: str, ascii_only: bool) -> Ranges:
    r"""The characters of \d, \s, \w and their opposites, as `re` itself finds them."""
    kind = name.removeprefix("CATEGORY_")
    letter = {"DIGIT": "d", "SPACE": "s", "WORD": "w"}[kind.removeprefix("NOT_")]
    characters = "".join(map(chr, range(LARGEST + 1)))
    found = re.finditer(rf"\{letter}+", characters, re.ASCII if ascii_only else 0)
    ranges = normalize([(match.start(), match.end() - 1) for match in found])
    return complement(ranges) if kind.startswith("NOT_") else ranges


@cache
def _cased() -> str:
    """The characters that have another case, or are one."""
    found = [each for each in map(chr, range(LARGEST + 1)) if each.lower() != each or each.upper() != each]
    return "".join(sorted({*found, *(other for each in found for other in each.lower() + each.upper())}))


@lru_cache(4096)
def _find_changed(kind: Any, value: Any, flags: int) -> tuple[int, ...]:
    """Characters that one item matches with the flag i or without it and not both, as `re` itself finds them.

    It has no simple rule: k is the Kelvin sign too, and [\U00010400x] does not match \U00010400.
    """
    if kind in (node.LITERAL, node.NOT_LITERAL) and chr(value) not in _cased():
        return ()
    text = "0" + "0".join(_cased())
    # after a literal, since a search for one item alone may skip what matches (`re` looks for it in another way)
    items = parser.SubPattern(parser.State(), [(node.LITERAL, ord("0")), (kind, value)])
    some, others = (set(compiler.compile(items, each).findall(text)) for each in (flags, flags & ~re.IGNORECASE))
    return tuple(sorted(ord(each[1]) for each in some ^ others))
