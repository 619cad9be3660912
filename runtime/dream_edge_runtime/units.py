"""Amounts as people write them."""

from __future__ import annotations


def size(count: float) -> str:
    """Bytes."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def number(count: float) -> str:
    """Parameters, or other large numbers."""
    for unit, factor in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= factor:
            return f"{count / factor:.2f} {unit}"
    return f"{count:.0f}"


def counted(count: int, noun: str, plural: str = "") -> str:
    """A number of things: "1 pass", "2 passes"."""
    return f"{count} {noun if count == 1 else plural or f'{noun}s'}"


def duration(seconds: float) -> str:
    """Roughly how long."""
    if seconds < 1:
        return "a second"
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
