"""Amounts as people write them."""

import pytest

from dream_edge_runtime.units import counted, duration, number, size


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (size(999), "999 B"),
        (size(1000), "1.0 kB"),
        (size(4_500_000_000), "4.5 GB"),
        (size(2e13), "20000.0 GB"),
        (number(7_600_000_000), "7.60 B"),
        (number(12), "12"),
        (duration(0.2), "a second"),
        (duration(89), "89 s"),
        (duration(150), "2 min"),
        (counted(1, "pass", "passes"), "1 pass"),
        (counted(2, "pass", "passes"), "2 passes"),
        (counted(0, "step"), "0 steps"),
    ],
)
def test_amounts_read_as_people_write_them(written: str, expected: str) -> None:
    assert written == expected
