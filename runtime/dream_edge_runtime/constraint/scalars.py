"""Given values, numbers between bounds, strings by regular expression, format and length."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from typing import Any

from .automaton import MOST_STATES, Automaton
from .errors import ConstraintTooLarge, InvalidRegex, InvalidSchema
from .json_text import (
    CHARACTER,
    INTEGER,
    MOST_MULTIPLES,
    NOTHING,
    NUMBER,
    SHORT_CHARACTER,
    STRING,
    write_escaped,
    write_multiples,
    write_numbers,
)
from .keywords import Assertions, type_of
from .pattern import Chars, Either, Pattern, Repeat, Sequence, sequence
from .regex import read_regex

_DAY = (
    "(?:[1-9][0-9]{3}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    "|02-(?:0[1-9]|1[0-9]|2[0-8]))"
    "|(?:[1-9][0-9](?:0[48]|[2468][048]|[13579][26])|(?:[2468][048]|[13579][26])00)-02-29)"
)
_CLOCK = "(?:[01][0-9]|2[0-3]):[0-5][0-9]"
_TIME = rf"{_CLOCK}:[0-5][0-9](?:\.[0-9]{{1,6}})?(?:Z|[+-]{_CLOCK})"
_SPAN = "T(?:[0-9]{1,4}H(?:[0-9]{1,4}M(?:[0-9]{1,4}S)?)?|[0-9]{1,4}M(?:[0-9]{1,4}S)?|[0-9]{1,4}S)"
_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_GROUP = "[0-9a-f]{1,4}"
_ATOM = "[A-Za-z0-9_+-]{1,20}"
_LABEL = "[A-Za-z0-9]{1,15}"  # four of them with hyphens are 63, the most that a label may have
_HOST = f"(?:{_LABEL}[.-]){{0,3}}[A-Za-z]{{1,15}}"  # no number at the end, so that it is no address

FORMATS = {
    "date": _DAY,
    "time": _TIME,
    "date-time": f"{_DAY}T{_TIME}",
    "duration": f"P(?:[0-9]{{1,4}}D(?:{_SPAN})?|{_SPAN}|[0-9]{{1,4}}W)",
    "uuid": "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    "email": rf"{_ATOM}(?:\.{_ATOM}){{0,2}}@(?:{_LABEL}[.-]){{0,3}}{_LABEL}\.[A-Za-z]{{2,10}}",
    "ipv4": rf"{_OCTET}(?:\.{_OCTET}){{3}}",
    "ipv6": f"(?:{_GROUP}:){{7}}{_GROUP}|(?:{_GROUP}:){{1,4}}(?::{_GROUP}){{1,3}}|::(?:{_GROUP}:){{0,6}}{_GROUP}|::",
    "hostname": _HOST,
    "uri": f"https?://{_HOST}(?::[1-9][0-9]{{0,3}})?(?:/[A-Za-z0-9._~/?&=+-]{{0,100}})?",
}
"""A part of what RFC 3339, 9562, 5321, 2673, 4291, 1123 and 3986 allow, as people write it."""

REFUSED_FORMATS = {
    *("regex", "iri", "iri-reference", "uri-reference", "uri-template"),
    *("json-pointer", "relative-json-pointer", "idn-email", "idn-hostname"),
}


DECIMALS = 6
"""Decimal places of a number with bounds, unless the bounds have more."""
MOST_DIGITS = 15
"""Of a number with bounds: numbers of so many are different as floats too."""


def list_values(assertions: Assertions) -> list[Any]:
    """The values that `assertions` list, but those that its bounds, lengths and regular expressions exclude."""
    values = [value for value in assertions.values or () if type_of(value) in assertions.types]
    kinds = set(map(type_of, values))
    if assertions.mentioned & kinds & {"object", "array"} or (assertions.formats and "string" in kinds):
        raise InvalidSchema(
            assertions.path,
            "enum and const cannot be kept together with format, or with keywords for objects or arrays. Remove these, "
            "and list only values that satisfy them",
        )
    patterns = assertions.patterns if "string" in kinds else ()
    automata = [Automaton.of(_read_pattern(pattern, assertions.path)) for pattern in patterns]
    return [value for value in values if _is_valid(value, assertions, automata)]


def _is_valid(value: Any, assertions: Assertions, automata: list[Automaton]) -> bool:
    """Whether `value` has the length or is within the bounds that there are, and `automata` match it."""
    if isinstance(value, str):
        least, most = assertions.length_least, assertions.length_most
        is_long_enough = least <= len(value) and (most is None or len(value) <= most)
        return is_long_enough and all(automaton.matches(value) for automaton in automata)
    if type_of(value) not in ("integer", "number"):
        return True
    exact, low, high = Fraction(repr(value)), assertions.low, assertions.high
    is_within = (low is None or (exact, False) >= low) and (high is None or (exact, high[1]) <= (high[0], False))
    return is_within and all(exact % factor == 0 for factor in assertions.factors)


def write_number(assertions: Assertions, *, whole: bool) -> Pattern:
    """Numbers between the bounds, with a few decimal places unless they are to be `whole`.

    A number's decimal places are limited so that rounding to a float cannot move it past a bound.
    """
    low, high, factors = assertions.low, assertions.high, assertions.factors
    whole = whole or bool(factors)
    if low is None and high is None and not factors:
        return INTEGER if whole else NUMBER
    bounds = [bound for bound, _ in filter(None, (low, high))] or [Fraction(0)]
    digits = max(len(str(abs(int(bound)))) for bound in bounds)
    needed = max(next((n for n in range(MOST_DIGITS) if bound * 10**n % 1 == 0), MOST_DIGITS) for bound in bounds)
    places = 0 if whole else max(needed, min(DECIMALS, MOST_DIGITS - digits))
    if not whole and digits + places > MOST_DIGITS:
        raise InvalidSchema(assertions.path, f"bounds of a number must have at most {MOST_DIGITS} digits. Round them")
    unit = 10**places
    first = last = None
    if low is not None:
        bound, is_outside = low
        first = math.floor(bound * unit) + 1 if is_outside else math.ceil(bound * unit)
    if high is not None:
        bound, is_outside = high
        last = math.ceil(bound * unit) - 1 if is_outside else math.floor(bound * unit)
    if first is not None and last is not None and first > last:
        return NOTHING
    if not factors:
        return write_numbers(first, last, places)
    factor = math.lcm(*factors)
    multiples = write_multiples(factor, first, last)
    if multiples is None:
        remedy = f"Let it divide 1000, or give a minimum and a maximum that leave up to {MOST_MULTIPLES} numbers"
        raise InvalidSchema(assertions.path, f"multipleOf {factor} cannot be kept here. {remedy}")
    return multiples


def write_string(assertions: Assertions) -> Pattern:
    """JSON strings that satisfy `assertions`."""
    least, most = assertions.length_least, assertions.length_most
    if refused := REFUSED_FORMATS.intersection(assertions.formats):
        kept = ", ".join(FORMATS)
        raise InvalidSchema(assertions.path, f"format {min(refused)} cannot be kept. Remove it; these can: {kept}")
    formats = [name for name in assertions.formats if name in FORMATS]
    if len(formats) + len(assertions.patterns) > 1:
        raise InvalidSchema(
            assertions.path, "only one pattern or format can be kept for one string. Join them in one pattern"
        )
    if most is not None and least > most:
        return NOTHING
    if formats or assertions.patterns:
        text = _read_format(formats[0]) if formats else _read_pattern(assertions.patterns[0], assertions.path)
        fitting = _fit(text, assertions)
        return fitting if fitting == NOTHING else sequence('"', write_escaped(fitting), '"')
    if most is not None:
        return sequence('"', repeat(SHORT_CHARACTER, least, most, assertions.path), '"')
    if least:
        start = repeat(SHORT_CHARACTER, least, least, assertions.path)
        return sequence('"', start, Repeat(CHARACTER), '"')
    return STRING


@cache
def _read_format(name: str) -> Pattern:
    return read_regex(FORMATS[name])


def _read_pattern(regex: str, path: str) -> Pattern:
    r"""What `regex` finds anywhere in a text, by Python's assertions and by ECMAScript's: \w and \d are those of ASCII.

    With negated classes by Python's alone: the complement of less would be more.
    """
    ascii_only = not re.search(r"\\[DWS]|\[\^|^\(\?[a-zA-Z]+\)", regex)
    try:
        return read_regex(f"(?a){regex}" if ascii_only else regex, search=True)
    except InvalidRegex as error:
        raise InvalidSchema(path, f"pattern: {str(error).removesuffix('.').replace('(?a)', '')}") from None


def _fit(text: Pattern, assertions: Assertions) -> Pattern:
    """`text` with as many characters as `assertions` allow."""
    least, most = assertions.length_least, math.inf if assertions.length_most is None else assertions.length_most
    shortest, longest = count_characters(text)
    if least <= shortest and longest <= most:
        return text
    parts = list(_flatten(text))
    counts = [count_characters(part) for part in parts]
    unsettled = [index for index, (few, many) in enumerate(counts) if few < many]
    part = parts[unsettled[0]] if len(unsettled) == 1 else text
    width = set(count_characters(part.part)) if isinstance(part, Repeat) else set()
    if shortest > most or longest < least:
        return NOTHING
    if not isinstance(part, Repeat) or len(width) != 1:
        raise InvalidSchema(
            assertions.path,
            "minLength and maxLength cannot be kept together with this pattern or format. Say in the pattern how long "
            "each part is: {1,20} in place of +",
        )
    size = int(width.pop())
    fixed = int(shortest) - part.least * size
    low = max(part.least, -((fixed - least) // size))
    high = min(math.inf if part.most is None else part.most, (most - fixed) // size)
    if low > high:
        return NOTHING
    parts[unsettled[0]] = repeat(part.part, low, None if high == math.inf else int(high), assertions.path)
    return Sequence(tuple(parts))


def _flatten(pattern: Pattern) -> Iterator[Pattern]:
    """The parts of a sequence, and of the sequences and groups within."""
    if isinstance(pattern, Sequence):
        for part in pattern.parts:
            yield from _flatten(part)
    elif isinstance(pattern, Either) and len(pattern.options) == 1:
        yield from _flatten(pattern.options[0])
    else:
        yield pattern


def count_characters(pattern: Pattern) -> tuple[float, float]:
    """Of the shortest and the longest text."""
    if isinstance(pattern, Chars):
        return 1, 1
    if isinstance(pattern, Sequence | Either):
        within = pattern.parts if isinstance(pattern, Sequence) else pattern.options
        counts = [count_characters(each) for each in within] or [(0, 0)]
        shortest, longest = zip(*counts, strict=True)
        return (sum(shortest), sum(longest)) if isinstance(pattern, Sequence) else (min(shortest), max(longest))
    assert isinstance(pattern, Repeat)  # without separator: no regular expression has one, nor a selection
    few, many = count_characters(pattern.part)
    most = math.inf if pattern.most is None else pattern.most
    return pattern.least * few, most * many if many else 0  # infinity times 0 is no number


def repeat(part: Pattern, least: int, most: int | None, path: str, separator: Pattern | None = None) -> Repeat:
    """`part` so many times, unless that is too much."""
    repeated = Repeat(part, least, most, separator or Sequence())
    times = least if most is None else most
    if times > 1 and size(repeated) > MOST_STATES:
        raise ConstraintTooLarge(f"up to {times:,} times what stands at {path} in the JSON schema")
    return repeated


def size(pattern: Pattern) -> int:
    """About as many states as its automaton has."""
    if isinstance(pattern, Chars):
        return 7 if pattern.ranges and pattern.ranges[-1][1] > 127 else 1
    if isinstance(pattern, Repeat):
        copies = max(1, pattern.count_copies(counted=pattern.is_counted) + pattern.is_counted)
        return copies * (size(pattern.part) + size(pattern.separator))
    return sum(map(size, pattern.options if isinstance(pattern, Either) else pattern.parts))
