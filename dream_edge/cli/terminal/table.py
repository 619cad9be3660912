"""Figures in columns: with lines drawn on a terminal, aligned elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from .io import is_terminal


def print_table(title: str, rows: Sequence[Sequence[str]]) -> None:
    """The first of `rows` names the columns; all but the first column stand to the right."""
    if not is_terminal(sys.stdout):
        typer.echo("\n".join([title, *align(rows)]))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for column, name in enumerate(rows[0]):
        table.add_column(name, justify="right" if column else "left")
    for row in rows[1:]:
        table.add_row(*row)
    Console().print(table, markup=False)


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns of even width: the first to the left, figures to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
