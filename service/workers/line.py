"""The line: which entries of a partition wait.

A handler that fails for everybody puts off every message of a long inbox, and one conversation may
have all of it. A task takes four thousand bytes for each, and objects of Python some hundreds. So
beyond the first few the line is a table of SQLite's, in this process's memory alone: entry ids, a
number for the conversation, a time, in about seventy bytes. It holds no text, and nothing that
Redis does not hold: it ends with its round.

Of each conversation the first entry is its head, unless that is under way and not in the line.
Only heads may begin. They are sorted by when they are due, and then by their ids.
"""

from __future__ import annotations

import heapq
import sqlite3

from service.model import EntryId

NEAR = 512
"""Heads that stand outside the table: while few wait, none pays for it."""

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
FIRST = "SELECT due, ms, seq, conversation FROM line WHERE head ORDER BY due, ms, seq LIMIT 1"
TAKE = "DELETE FROM line WHERE ms = ? AND seq = ? AND conversation = ?"
PROMOTE = """
    UPDATE line SET head = 1 WHERE (conversation, ms, seq) =
        (SELECT conversation, ms, seq FROM line WHERE conversation = ? ORDER BY ms, seq LIMIT 1)
"""


Head = tuple[float, int, int, int]
"""When it is due, the two halves of its entry's id, its conversation."""


class Line:
    """Entries that wait.

    A conversation is a number of 64 bits, as `hash` gives it: if two ever share one, they take
    turns as if they were one. Times are time.monotonic. near: see NEAR.
    """

    def __init__(self, near: int = NEAR) -> None:
        self._limit = near
        self._near: list[Head] = []
        self._near_by: set[int] = set()
        self._table = sqlite3.connect(":memory:", isolation_level=None)
        self._table.executescript(TABLE)
        self._far = self._far_heads = 0

    def __len__(self) -> int:
        return len(self._near) + self._far

    def __contains__(self, conversation: int) -> bool:
        if conversation in self._near_by:
            return True
        return bool(self._far and self._table.execute(FIND, (conversation,)).fetchone())

    def add(self, conversation: int, entry: EntryId, due: float, *, head: bool) -> None:
        """Let an entry wait, until `due` at least.

        head: its conversation has none in the line and none under way, or this is the one that was.
        """
        ms, _, seq = entry.partition("-")
        if head and len(self._near) < self._limit:
            heapq.heappush(self._near, (due, int(ms), int(seq), conversation))
            self._near_by.add(conversation)
            return
        self._table.execute(ADD, (conversation, int(ms), int(seq), due, head))
        self._far += 1
        self._far_heads += head

    def promote(self, conversation: int) -> None:
        """Make the conversation's first entry its head, if it has one: nothing is under way now."""
        if self._far > self._far_heads:
            self._far_heads += self._table.execute(PROMOTE, (conversation,)).rowcount

    def take(self, now: float) -> tuple[int, EntryId] | float | None:
        """Remove the head that has been due longest; returns its conversation and entry.

        Where none is due yet, returns when the first will be; None where there is no head at all.
        """
        near = self._near[0] if self._near else None
        far: Head | None = self._table.execute(FIRST).fetchone() if self._far_heads else None
        first = min((each for each in (near, far) if each is not None), default=None)
        if first is None:
            return None
        due, ms, seq, conversation = first
        if due > now:
            return due
        if first is near:
            heapq.heappop(self._near)
            self._near_by.discard(conversation)
        else:
            self._table.execute(TAKE, (ms, seq, conversation))
            self._far -= 1
            self._far_heads -= 1
        return conversation, EntryId(f"{ms}-{seq}")

    def close(self) -> None:
        """Forget everything."""
        self._table.close()
        self._near.clear()
        self._near_by.clear()
        self._far = self._far_heads = 0
