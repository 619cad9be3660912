"""Patterns of JSON texts, as language models write them: strings, numbers in a range, arrays, objects, given values."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from collections.abc import Sequence as Sequenced
from functools import cache, lru_cache
from typing import Any

from .pattern import (
    Chars,
    Either,
    Pattern,
    Repeat,
    Selection,
    Sequence,
    chars,
    complement,
    either,
    normalize,
    optional,
    sequence,
)

NOTHING = Either(())
"""Matches no text: what a schema forbids."""
MOST_MULTIPLES = 1_000
"""Multiples of a number that are listed."""

SPACE = either("", " ", sequence("\n", Repeat(chars(" "), 0, 8)))
COMMA = sequence(",", SPACE)

DIGIT = chars(("0", "9"))
HEX = chars(("0", "9"), ("a", "f"), ("A", "F"))
UNICODE_ESCAPE = sequence(  # but no surrogates, D800 to DFFF, which come in pairs or are wrong
    "u",
    either(
        sequence(chars(("0", "9"), "abcefABCEF"), HEX),
        sequence(chars("dD"), chars(("0", "7"))),
    ),
    HEX,
    HEX,
)

MUST_ESCAPE = chars(("\0", "\x1f"), '"\\')
RAW = Chars(complement(MUST_ESCAPE.ranges))
SHORT_ESCAPES = '"\\bfnrt'
SHORT_CHARACTER = either(RAW, sequence("\\", chars(SHORT_ESCAPES)))
"""A character that can be written in one way only, so that different texts are different strings."""
CHARACTER = either(RAW, sequence("\\", either(chars(SHORT_ESCAPES + "/"), UNICODE_ESCAPE)))

KEY = sequence('"', Repeat(SHORT_CHARACTER), '"')
STRING = sequence('"', Repeat(CHARACTER), '"')
INTEGER = sequence(optional("-"), either("0", sequence(chars(("1", "9")), Repeat(DIGIT))))
EXPONENT = sequence(chars("eE"), optional(chars("+-")), Repeat(DIGIT, 1, 2))
NUMBER = sequence(INTEGER, optional(sequence(".", Repeat(DIGIT, 1))), optional(EXPONENT))
BOOLEAN = either("true", "false")
NULL = sequence("null")


def write_text(text: str) -> str:
    """`text` as a JSON string."""
    return json.dumps(text, ensure_ascii=False)


def write_escaped(pattern: Pattern) -> Pattern:
    """Texts of `pattern` as they stand within a JSON string, with escapes where there must be some."""
    if isinstance(pattern, Chars):
        return _escape(pattern)
    if isinstance(pattern, Sequence):
        return Sequence(tuple(write_escaped(part) for part in pattern.parts))
    if isinstance(pattern, Either):
        return Either(tuple(write_escaped(option) for option in pattern.options))
    assert isinstance(pattern, Repeat)
    return Repeat(write_escaped(pattern.part), pattern.least, pattern.most, write_escaped(pattern.separator))


@lru_cache(1000)
def _escape(characters: Chars) -> Pattern:
    escaped = [
        write_text(chr(code))[1:-1]
        for first, last in MUST_ESCAPE.ranges
        for code in range(first, last + 1)
        if any(low <= code <= high for low, high in characters.ranges)
    ]
    plain = _without(characters, MUST_ESCAPE)
    return either(*([plain] if plain.ranges else []), *escaped)


def _without(characters: Chars, others: Chars) -> Chars:
    return Chars(complement(normalize([*complement(characters.ranges), *others.ranges])))


def write_numbers(low: int | None, high: int | None, decimals: int = 0) -> Pattern:
    """Numbers of at most `decimals` decimal places from `low` to `high`, both inside, in units of the last place."""
    return _write_signed(low, high, lambda least, most: _write_naturals(least, most, decimals))


def write_multiples(factor: int, low: int | None, high: int | None) -> Pattern | None:
    """Multiples of `factor` from `low` to `high`, both inside; None if they are many and no last digits tell them."""
    if low is not None and high is not None and (high - low) // factor < MOST_MULTIPLES:
        return either(*map(str, range(-(-low // factor) * factor, high + 1, factor)))
    unit = next((10**digits for digits in range(4) if 10**digits % factor == 0), None)
    if unit is None:
        return None

    def write(least: int, most: int | None) -> Pattern:
        options: list[Pattern | str] = []
        for ending in range(0, unit, factor):
            first, last = -((ending - least) // unit), None if most is None else (most - ending) // unit
            if first <= 0 and (last is None or last >= 0):
                options.append(str(ending))
            if last is None or max(1, first) <= last:
                options.append(sequence(_write_whole(max(1, first), last), str(unit + ending)[1:]))
        return either(*options)

    return _write_signed(low, high, write)


def _write_signed(low: int | None, high: int | None, write: Callable[[int, int | None], Pattern]) -> Pattern:
    """Numbers from `low` to `high`, those without sign as `write` writes them."""
    sides = []
    if high is None or high >= 0:
        sides.append(("", write(max(0, low or 0), high)))
    if low is None or low < 0:
        above = 1 if high is None else max(1, -high)
        sides.append(("-", write(above, None if low is None else -low)))
    return Either(tuple(sequence(sign, numbers) for sign, numbers in sides if numbers != NOTHING))


def _write_naturals(low: int, high: int | None, decimals: int) -> Pattern:
    """Split at the point: whole numbers of which all decimals are inside, and one at each end of which some are."""
    unit = 10**decimals
    first, last = low // unit, None if high is None else high // unit
    options: list[Pattern] = []
    if last == first and high is not None:
        return sequence(str(first), _write_decimals(low % unit, high % unit, decimals))
    if low % unit:
        options.append(sequence(str(first), _write_decimals(low % unit, unit - 1, decimals)))
        first += 1
    if last is not None and high is not None and high % unit != unit - 1:
        options.append(sequence(str(last), _write_decimals(0, high % unit, decimals)))
        last -= 1
    if last is None or first <= last:
        tail = optional(sequence(".", Repeat(DIGIT, 1, decimals))) if decimals else Sequence()
        options.append(sequence(_write_whole(first, last), tail))
    return Either(tuple(options))


def _write_decimals(low: int, high: int, decimals: int) -> Pattern:
    options: list[Pattern] = [Sequence()] if low == 0 else []
    for places in range(1, decimals + 1):
        step = 10 ** (decimals - places)
        first, last = -(-low // step), high // step
        if first <= last:
            options.append(sequence(".", _write_between(str(first).zfill(places), str(last).zfill(places))))
    return Either(tuple(options))


def _write_whole(low: int, high: int | None) -> Pattern:
    """Numbers from `low` to `high`, a range for each count of digits."""
    options: list[Pattern] = []
    shortest = len(str(low))
    for length in range(shortest, len(str(low if high is None else high)) + 1):
        first = low if length == shortest else 10 ** (length - 1)
        last = 10**length - 1 if high is None else min(high, 10**length - 1)
        options.append(_write_between(str(first), str(last)))
    if high is None:
        options.append(sequence(chars(("1", "9")), Repeat(DIGIT, shortest)))
    return Either(tuple(options))


def _write_between(low: str, high: str) -> Pattern:
    """Digits from `low` to `high`, which have as many."""
    if not low:
        return Sequence()
    if low[0] == high[0]:
        return sequence(low[0], _write_between(low[1:], high[1:]))
    rest = len(low) - 1
    zeros, nines = "0" * rest, "9" * rest
    first, last = int(low[0]), int(high[0])
    options: list[Pattern] = []
    if low[1:] != zeros:
        options.append(sequence(str(first), _write_between(low[1:], nines)))
        first += 1
    if high[1:] != nines:
        options.append(sequence(str(last), _write_between(zeros, high[1:])))
        last -= 1
    if first <= last:
        options.append(sequence(chars((str(first), str(last))), Repeat(DIGIT, rest, rest)))
    return Either(tuple(options))


def write_array(elements: Sequenced[Pattern], least: int) -> Pattern:
    """An array that starts with `elements`, in this order, and has at least `least` of them."""
    content: Pattern | None = None
    for position, element in reversed(list(enumerate(elements, 1))):
        if content is not None:
            rest = sequence(COMMA, content)
            element = sequence(element, rest if position < least else optional(rest))
        content = element
    return _enclose("[", content, "]", empty=least == 0)


def write_object(members: Sequenced[tuple[Pattern, bool]], *, empty: bool = True) -> Pattern:
    """An object with `members`, in this order; those marked True must be there, and one at least if not `empty`."""
    if not members:
        return _enclose("{", None, "}", empty=empty)
    parts, needed = zip(*members, strict=True)
    return _enclose("{", Selection(parts, needed, COMMA), "}", empty=empty and not any(needed))


def _enclose(opening: str, content: Pattern | None, closing: str, *, empty: bool) -> Pattern:
    if content is None:
        return sequence(opening, SPACE, closing) if empty else NOTHING
    inside = sequence(content, SPACE)
    return sequence(opening, SPACE, optional(inside) if empty else inside, closing)


def write_member(key: Pattern | str, value: Pattern) -> Pattern:
    """`key`, which is a pattern of JSON strings or the text of one, and `value`."""
    return sequence(write_text(key) if isinstance(key, str) else key, ":", SPACE, value)


def write_other_key(names: Collection[str]) -> Pattern:
    """A key that is none of `names`."""
    return sequence('"', _write_other_text(frozenset(names)), '"')


def _write_other_text(names: Collection[str]) -> Pattern:
    heads = {name[0] for name in names if name}
    plain = _without(RAW, chars("".join(heads)))
    escapes = "".join(each for each in SHORT_ESCAPES if json.loads(f'"\\{each}"') not in heads)
    options = [sequence(either(plain, sequence("\\", chars(escapes))), Repeat(SHORT_CHARACTER))]
    for head in sorted(heads):
        rest = _write_other_text({name[1:] for name in names if name.startswith(head)})
        options.append(sequence(write_text(head)[1:-1], rest))
    return Either((*options, *([] if "" in names else [Sequence()])))


def write_value(value: Any) -> Pattern:
    """Just `value`, with optional white space."""
    if isinstance(value, Mapping):
        return write_object([(write_member(key, write_value(each)), True) for key, each in value.items()])
    if isinstance(value, list):
        return write_array([write_value(each) for each in value], len(value))
    return sequence(json.dumps(value, ensure_ascii=False))


@cache
def write_any(depth: int) -> Pattern:
    """Any value; arrays and objects nested at most `depth` levels."""
    scalars = (STRING, NUMBER, BOOLEAN, NULL)
    return either(*scalars, *(write_any_container(depth) if depth else ()))


@cache
def write_any_container(depth: int) -> tuple[Pattern, Pattern]:
    """Any array, and any object, of at most `depth` levels, which is one or more."""
    value = write_any(depth - 1)
    array = write_array([Repeat(value, 1, None, COMMA)], 0)
    return array, write_object([(Repeat(write_member(KEY, value), 1, None, COMMA), False)])
