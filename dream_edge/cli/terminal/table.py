"""Figures in columns: with lines drawn on a terminal, aligned elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from .io import aligned, is_terminal


def print_table(title: str, rows: Sequence[Sequence[str]]) -> None:
    """The first of `rows` names the columns; all but the first column stand to the right."""
    if not is_terminal(sys.stdout):
        typer.echo("\n".join([title, *aligned(rows)]))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for column, name in enumerate(rows[0]):
        table.add_column(name, justify="right" if column else "left")
    for row in rows[1:]:
        table.add_row(*row)
    Console().print(table, markup=False)
