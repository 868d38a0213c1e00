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

Row = tuple[Sequence[str], str | None]
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


def print_table(titles: Sequence[str], rows: Sequence[Row]) -> None:
    """Print rows under their titles."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for title in titles:
        table.add_column(title, overflow="fold")
    for cells, style in rows:
        # As text: rich would take "[/x]" in a plain string for markup.
        table.add_row(*(Text(_readable(cell, sys.stdout)) for cell in cells), style=style)
    Console(width=None if sys.stdout.isatty() else WIDE).print(table)


def _readable(line: object, stream: TextIO) -> str:
    # A letter that the stream has no way to write would end the command.
    encoding = stream.encoding or "utf-8"
    return escape(str(line)).encode(encoding, "backslashreplace").decode(encoding)
