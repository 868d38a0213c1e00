"""The line: which entries of a partition wait, in about seventy bytes each.

A handler that fails for everybody puts off every message of a long inbox, and one conversation may
have all of it. Objects of Python would take some hundred bytes for each and a task four thousand.
So the line is a table of SQLite's, in this process's memory alone: entry ids, a number for the
conversation, a time. It holds no text, and nothing that Redis does not hold: it ends with its
round.

Of each conversation the first entry is its head, unless that is under way and not in the line.
Only heads may begin. They are sorted by when they are due.
"""

from __future__ import annotations

import sqlite3

from service.model import EntryId

TABLE = """
    PRAGMA journal_mode = OFF;
    CREATE TABLE line (
        conversation INTEGER, ms INTEGER, seq INTEGER, due REAL, head INTEGER,
        PRIMARY KEY (conversation, ms, seq)
    ) WITHOUT ROWID;
    CREATE INDEX heads ON line (due, ms, seq) WHERE head;
"""

ADD = "INSERT INTO line VALUES (?, ?, ?, ?, ?)"
FIND = "SELECT 1 FROM line WHERE conversation = ? LIMIT 1"
FIRST = "SELECT due, conversation, ms, seq FROM line WHERE head ORDER BY due, ms, seq LIMIT 1"
TAKE = "DELETE FROM line WHERE conversation = ? AND ms = ? AND seq = ?"
PROMOTE = """
    UPDATE line SET head = 1 WHERE (conversation, ms, seq) =
        (SELECT conversation, ms, seq FROM line WHERE conversation = ? ORDER BY ms, seq LIMIT 1)
"""


class Line:
    """Entries that wait.

    A conversation is a number of 64 bits, as `hash` gives it: if two ever share one, they take
    turns as if they were one. Times are time.monotonic.
    """

    def __init__(self) -> None:
        self._table = sqlite3.connect(":memory:", isolation_level=None)
        self._table.executescript(TABLE)
        self._count = self._heads = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, conversation: int) -> bool:
        return bool(self._count and self._table.execute(FIND, (conversation,)).fetchone())

    def add(self, conversation: int, entry: EntryId, due: float, *, head: bool) -> None:
        """Let an entry wait, until `due` at least.

        head: its conversation has none in the line and none under way, or this is the one that was.
        """
        ms, _, seq = entry.partition("-")
        self._table.execute(ADD, (conversation, int(ms), int(seq), due, head))
        self._count += 1
        self._heads += head

    def promote(self, conversation: int) -> None:
        """Make the conversation's first entry its head, if it has one: nothing is under way now."""
        if self._count > self._heads:
            self._heads += self._table.execute(PROMOTE, (conversation,)).rowcount

    def take(self, now: float) -> tuple[int, EntryId] | float | None:
        """Remove the head that has been due longest; returns its conversation and entry.

        Where none is due yet, returns when the first will be; None where there is no head at all.
        """
        if not self._heads:
            return None
        due, *place = self._table.execute(FIRST).fetchone()
        if due > now:
            return float(due)
        self._table.execute(TAKE, place)
        self._count -= 1
        self._heads -= 1
        conversation, ms, seq = place
        return conversation, EntryId(f"{ms}-{seq}")

    def close(self) -> None:
        """Forget everything."""
        self._table.close()
        self._count = self._heads = 0
