"""What commands print: lines, JSON, tables. A terminal obeys nothing that came from outside.

The only part that prints, beside the pictures of the demo and the bench: whatever a command says
goes through here, so no command has to know which of its words a stranger chose.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TextIO

from service.core.plain_text import escape, escape_in_json

WIDE = 10_000
"""Columns of what is no terminal: nobody sees a line break there, and `grep` would miss half."""

TableRow = tuple[Sequence[str], str | None]
"""The cells, and a style for the row."""


def say(*lines: object) -> None:
    """Print each as one line, whatever is in it."""
    for line in lines:
        print(_readable(line, sys.stdout))


def say_error(*lines: object) -> None:
    """Print each as one line of standard error."""
    for line in lines:
        print(_readable(line, sys.stderr), file=sys.stderr)


def say_json(value: object) -> None:
    """Print a value for scripts: exactly, all but plain ASCII as JSON's own escapes."""
    print(escape_in_json(json.dumps(value, indent=2)))


ROOMY = 120
"""Columns of a terminal in which a table of seven columns is readable."""


def print_table(titles: Sequence[str], rows: Sequence[TableRow], *, below: int = 0) -> None:
    """Print rows under their titles. The first cell, by which a row is meant, is never split.

    below: how many of the last cells, those of long texts, stand on lines of their own under the
        row where the terminal is narrow.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(width=None if sys.stdout.isatty() else WIDE)
    if below and console.width < ROOMY:
        _print_stacked(titles, rows, below)
        return
    table = Table(box=None, pad_edge=False)
    for place, title in enumerate(titles):
        table.add_column(title, overflow="fold", no_wrap=place == 0)
    for cells, style in rows:
        # As text: rich would take "[/x]" in a plain string for markup.
        table.add_row(*(Text(_readable(cell, sys.stdout)) for cell in cells), style=style)
    console.print(table)


def _print_stacked(titles: Sequence[str], rows: Sequence[TableRow], below: int) -> None:
    heads = [titles[:-below], *(cells[:-below] for cells, _ in rows)]
    shown = [[_readable(cell, sys.stdout) for cell in head] for head in heads]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    texts: list[Sequence[str]] = [(), *(cells[-below:] for cells, _ in rows)]
    for head, more in zip(shown, texts, strict=True):
        cells = (cell.ljust(width) for cell, width in zip(head, widths, strict=True))
        say("  ".join(cells).rstrip(), *(f"    {text}" for text in more if text))


def _readable(line: object, stream: TextIO) -> str:
    # A letter that the stream has no way to write would end the command.
    encoding = stream.encoding or "utf-8"
    return escape(str(line)).encode(encoding, "backslashreplace").decode(encoding)
