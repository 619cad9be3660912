from __future__ import annotations

import pytest

from dream_edge_runtime.files.json import describe, parse_json_object


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ("[1]", "a JSON list, expected an object"),
        ('{"a": NaN}', "NaN is not a JSON number"),
        ('{"a": -Infinity}', "-Infinity is not"),
        ('{"a": 1e999}', "no 64-bit float is near"),
        ('{"a": 1, "b": {"c": 1, "c": 1}}', "key 'c' is repeated"),
        ('{"a": [[[1]]]}', "nested more than 3 deep"),
        ("[" * 100_000, "not valid JSON"),
        (b"\xff", "not valid JSON"),
    ],
)
def test_anything_but_one_strict_object_is_refused(data: bytes | str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_json_object(data, deepest=3)


def test_object_as_deep_as_allowed_is_read() -> None:
    assert parse_json_object('{"a": [[1, 2.5]], "b": {}}', deepest=3) == {"a": [[1, 2.5]], "b": {}}


def test_strange_values_are_described_in_one_short_printable_line() -> None:
    assert describe("a\n\u202e") == r"'a\n\u202e'"
    assert describe([1] * 100).endswith("...")
    assert len(describe("x" * 1000)) == 80
    assert describe(ValueError("key\n\x1b[31m")) == "key??[31m"
