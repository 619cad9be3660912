"""Regular expressions as automata: against Python's own `re`, on every short text and on drawn ones."""

from __future__ import annotations

import itertools
import re
import time
import tracemalloc

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dream_edge_runtime.constraint.automaton import Automaton
from dream_edge_runtime.constraint.errors import ConstraintError, ConstraintTooLarge, InvalidRegex
from dream_edge_runtime.constraint.regex import read_regex


def automaton(regex: str, *, search: bool = False) -> Automaton:
    return Automaton.of(read_regex(regex, search=search))


REGEXES = st.recursive(
    st.sampled_from(["a", "b", "c", "[ab]", "[^a]", ".", r"\d", r"\w", "é", "[a-é]"]),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map("".join),
        st.lists(inner, min_size=1, max_size=3).map(lambda each: f"(?:{'|'.join(each)})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,2}", "{0,3}", "{2,}", "*?"])).map(
            lambda pair: f"(?:{pair[0]}){pair[1]}"
        ),
    ),
    max_leaves=5,
)


@given(regex=REGEXES, search=st.booleans())
@settings(max_examples=300)
def test_short_texts_match_as_in_python(regex: str, search: bool) -> None:
    try:
        read = automaton(regex, search=search)
    except ConstraintTooLarge:
        assume(search and r"\w" in regex)  # "a, then four letters" anywhere
        return
    compiled = re.compile(regex)
    ask = compiled.search if search else compiled.fullmatch
    for size in range(4):
        for letters in itertools.product("abé1", repeat=size):
            text = "".join(letters)
            assert read.matches(text) == (ask(text) is not None), text


@pytest.mark.parametrize("regex", [r"\w", r"\d", r"\s", r"\W", r"\D", r"\S", ".", "(?s:.)", "[^a]", "[à-￿]", r"(?a)\w"])
def test_one_character_matches_as_in_python(regex: str) -> None:
    """Every 37th character of Unicode, and all of the first thousand; surrogates are no text."""
    read, compiled = automaton(regex), re.compile(regex)
    for code in [*range(1000), *range(1000, 0x110000, 37), 0x10FFFF]:
        if not 0xD800 <= code <= 0xDFFF:
            assert read.matches(chr(code)) == (compiled.fullmatch(chr(code)) is not None), hex(code)


CASES = "kK\u212a sS\u017f iI\u0130\u0131 \u00df\u1e9e \u00b5\u03bc\u039c \u03c3\u03c2\u03a3 \u01c4\u01c5\u01c6 "
CASES += (
    "\ufb05\ufb06 \u00e5\u00c5\u212b \u03b8\u03d1\u0398\u03f4 \u1c80\u0432\u0412 \U00010400\U00010428 \u13a0\uab70 a1-"
)
"""Letters whose cases are more than two, or are no letters of the same script, or are known to no simple table."""

LETTERS = st.sampled_from(sorted(set(CASES)))
ITEMS = st.one_of(
    LETTERS.map(re.escape),
    st.tuples(
        st.sampled_from(["", "^"]),
        st.lists(
            st.one_of(
                LETTERS.map(re.escape),
                st.tuples(LETTERS, LETTERS).map(lambda pair: "-".join(map(re.escape, sorted(pair)))),
                st.sampled_from([r"\w", r"\W", r"\d"]),
            ),
            min_size=1,
            max_size=3,
        ).map("".join),
    ).map(lambda parts: f"[{parts[0]}{parts[1]}]"),
)
CASELESS = st.tuples(
    st.sampled_from(["", "(?i)", "(?ai)", "(?si)", "(?a)"]),
    st.lists(
        st.tuples(
            st.sampled_from(["(?:", "(?i:", "(?-i:", "(?ai:", "(?ui:", "(?u:"]), ITEMS, st.sampled_from([")", ")?"])
        ).map("".join),
        min_size=1,
        max_size=2,
    ).map("".join),
).map("".join)


@given(regex=CASELESS)
@settings(max_examples=300)
def test_cases_are_those_of_python(regex: str) -> None:
    regex += "|zz"  # so that something matches
    read, compiled = automaton(regex), re.compile(regex)
    for size in range(3):
        for letters in itertools.product(sorted(set(CASES)), repeat=size):
            text = "".join(letters)
            assert read.matches(text) == (compiled.fullmatch(text) is not None), ascii(text)


@pytest.mark.parametrize(
    "regex",
    [
        *("(?i)k", "(?i)\u017f", "(?i)[^k]", "(?i)[a-z]", "(?ai)[a-z]", "(?i)[^\u017f-\u212a]"),
        *(
            "(?i)[\u0100-\U0010ffff]",
            "(?i)[\U00010400x]",
            "(?i)[^\U00010400-\U00010410x]",
            r"(?i)\w",
            r"(?ai)[\w\u212a]",
            r"(?a)(?ui:[^\Wk])",
        ),
    ],
)
def test_every_letter_is_found_without_regard_to_case(regex: str) -> None:
    read, compiled = automaton(regex), re.compile(regex)
    for letter in filter(lambda each: each.lower() != each or each.upper() != each, map(chr, range(0x1E950))):
        assert read.matches(letter) == (compiled.fullmatch(letter) is not None), ascii(letter)


@pytest.mark.parametrize(
    ("regex", "matching", "other"),
    [
        ("(?i)yes|no", ["yes", "YES", "nO"], ["y", "yesno"]),
        ("(?i:y)es", ["Yes", "yes"], ["YES"]),
        ("(?i)y(?-i:es)", ["Yes"], ["YES"]),
        ("(?m)^a$", ["a"], ["a\n", "A"]),
        ("(?s).", ["\n"], [""]),
        ("(?x) a b  # both", ["ab"], ["a b"]),
        (r"(?a)(?u:\w)\w", ["\u00e9a"], ["a\u00e9"]),
        (r"(?a:\w)\w", ["a\u00e9"], ["\u00e9a"]),
    ],
)
def test_flags_hold_where_they_stand(regex: str, matching: list[str], other: list[str]) -> None:
    read = automaton(regex)
    assert all(read.matches(text) for text in matching)
    assert not any(read.matches(text) for text in other)


def test_json_schemas_have_no_flag_for_cases() -> None:
    for regex in ("(?i)a", "b(?i:a)"):
        with pytest.raises(InvalidRegex, match=r"write \[aA\]"):
            read_regex(regex, search=True)


@pytest.mark.parametrize("regex", ["^a|b$", "^(a|b)$", "(^a$)", r"\Aab\Z", "^", "a$|^b", "^a", "b$"])
@pytest.mark.parametrize("text", ["", "a", "b", "ab", "ba", "aba", "bab"])
def test_ends_of_a_search_are_those_of_python(regex: str, text: str) -> None:
    assert automaton(regex, search=True).matches(text) == (re.search(regex, text) is not None)


@pytest.mark.parametrize(
    ("regex", "word"),
    [
        ("(?=a)a", "look"), ("(?<!a)b", "look"), (r"(a)\1", "repeat"), (r"\ba", "boundary|beginning"),
        ("(?>a)", "part"),
        ("a*+", "part"), ("(?L:a)", "cannot use 'L' flag"), ("(", "no regular expression"), ("a^b", "beginning"),
        ("[", "no regular expression"), ("a{2}{3}", "no regular expression"), ("(?P<n>a)(?(n)b|c)", "depends"),
    ],
)  # fmt: skip
def test_what_no_automaton_reads_is_named(regex: str, word: str) -> None:
    with pytest.raises(InvalidRegex, match=word):
        read_regex(regex)


@pytest.mark.parametrize("regex", ["[^\x00-\U0010ffff]", "a[^\x00-\U0010ffff]b", "(?!)"])
def test_an_expression_that_matches_nothing_is_refused(regex: str) -> None:
    with pytest.raises(ConstraintError):
        automaton(regex)


HOSTILE = {
    "repetitions of repetitions": "((a{50}){50}){50}",
    "a thousand thousands": "(.{0,1000}x){1000}",
    "an exponential automaton": "(a|b)*a(a|b){20}",
    "two counters": ".{0,900}x.{0,900}y",
    "words": r"(\w{1,50} ){1,20}",
    "optional parts": "(a?){500}a{500}",
    "depth": "(" * 5000 + "a" + ")" * 5000,
    "depth that is read": "(" * 900 + "a" + "|b)" * 900,
    "length": "a" * 1_000_000,
    "alternatives": "|".join(f"(a{{{n}}}b*)*" for n in range(400)),
    "stars of stars": "(" * 60 + "a*" + ")*" * 60 + "b{6000}c{9000}",
    "a long count": "a{1000000000}",
    "classes": "[^a]{4000}",
    "wide classes in any case": "(?i)" + "".join(f"[{chr(0x100 + n)}-\uffff]" for n in range(3000)),
    "classes in any case": "(?i)" + "".join(f"[^{chr(0x100 + n)}{chr(0x1000 + n)}]" for n in range(3000)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_expression_is_refused_soon(name: str) -> None:
    started = time.process_time()
    tracemalloc.start()
    try:
        with pytest.raises(ConstraintTooLarge):
            automaton(HOSTILE[name])
        assert tracemalloc.get_traced_memory()[1] < 300e6
    finally:
        tracemalloc.stop()
    assert time.process_time() - started < 20  # ten times slower than without the tracing of memory


def test_a_type_that_is_no_text_is_refused() -> None:
    with pytest.raises(InvalidRegex, match="must be text"):
        read_regex(b"a")  # type: ignore[arg-type]
