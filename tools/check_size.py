"""Hold the product to its line budget: python tools/check_size.py. What grows past it becomes simpler."""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
PRODUCT = ("runtime", "export", "dream_edge", "optimum")

ALL_LINES = 34_091
LINES_OF_A_FILE = 350  # past this it has two jobs
MEDIAN = 120


def main() -> int:
    """Print the figures; 1 if one is over its budget."""
    sizes = {
        path.relative_to(ROOT).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for folder in PRODUCT
        for path in sorted((ROOT / folder).rglob("*.py"))
    }
    total, middle = sum(sizes.values()), median(sizes.values())
    print(f"{total} lines of {ALL_LINES} in {len(sizes)} files, median {middle:g} of {MEDIAN}")
    long = {name: lines for name, lines in sizes.items() if lines > LINES_OF_A_FILE}
    for name, lines in long.items():
        print(f"{name}: {lines} lines of {LINES_OF_A_FILE}")
    return int(total > ALL_LINES or middle > MEDIAN or bool(long))


if __name__ == "__main__":
    sys.exit(main())
