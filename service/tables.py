"""Tables that lose nothing: folded on a terminal, as wide as need be elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Sequence

WIDE = 10_000
"""Columns of what is no terminal: nobody sees a line break there, and `grep` would miss half."""

Row = tuple[Sequence[str], str | None]
"""The cells, and a style for the row."""


def print_table(titles: Sequence[str], rows: Sequence[Row]) -> None:
    """Print rows under their titles."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title in titles:
        table.add_column(title, overflow="fold")
    for cells, style in rows:
        table.add_row(*cells, style=style)
    Console(width=None if sys.stdout.isatty() else WIDE).print(table)
