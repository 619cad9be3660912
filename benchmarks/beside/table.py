"""The figures as one table in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .figures import FILE, LOAD, MEMORY, STEP, TEXT, Figures, part_of, pass_over, ratios

PAIRS = (
    ("llama.cpp Q8_0", "int8"),
    ("llama.cpp Q4_K_M", "int4"),
    ("llama.cpp Q4_K_M", "int4 --as-int8"),
    ("llama.cpp Q4_K_M", "int8"),
    ("PyTorch bf16", "int8"),
)


def columns(tokens: Sequence[int], parts: Sequence[int], canvas: int) -> dict[str, tuple[str, float]]:
    """Name of a figure → its heading, and how many of its units are one."""
    found = {pass_over(count): (f"ms, {count}", 1000.0) for count in tokens}
    found |= {part_of(count, canvas): (f"ms, {count} of {canvas}", 1000.0) for count in sorted({*parts, canvas})}
    found |= {STEP: (f"ms, step of {canvas}", 1000.0), TEXT: ("text, s", 1.0)}
    return found | {LOAD: ("load, s", 1.0), MEMORY: ("peak, GB", 1e-9), FILE: ("files, GB", 1e-9)}


def table(title: str, figures: Mapping[str, Figures], shown: Mapping[str, tuple[str, float]]) -> str:
    """A row for each program, then how many times theirs is ours."""
    rows = [f"| {title} | " + " | ".join(heading for heading, _ in shown.values()) + " |"]
    rows.append("|---" * (len(shown) + 1) + "|")
    for name, each in figures.items():
        cells = (_number(each[key] * scale) if key in each else "–" for key, (_, scale) in shown.items())
        rows.append(f"| {name} | {' | '.join(cells)} |")
    for theirs, ours in PAIRS:
        if theirs in figures and ours in figures:
            times = ratios(figures[theirs], figures[ours])
            cells = (f"{times[key]:.2f} ×" if key in times else "–" for key in shown)
            rows.append(f"| {theirs} / {ours} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
