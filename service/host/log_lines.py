"""What keeps log lines from being a stranger's to write: how many there are, and what acts in them.

Used by `logs`. A stranger decides how often uvicorn complains of malformed requests, and what an
error quotes.
"""

from __future__ import annotations

import atexit
import io
import logging
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, TextIO

import structlog

from service.core.plain_text import escape

if TYPE_CHECKING:
    from structlog.typing import EventDict, ExcInfo

LIBRARY_LINES = 2
"""Lines of one kind that a library may write in `LIBRARY_PERIOD_S`; of the rest, their number."""

LIBRARY_PERIOD_S = 1.0

KINDS = 100
"""Kinds of lines told apart; a library that writes ever new ones shares one count for the rest."""

KIND_LENGTH = 80
"""Characters of a line that make its kind: what differs comes later, or as an argument."""


class LibraryLimit(logging.Filter):
    """Lets `LIBRARY_LINES` of each kind pass, and says once a period how many it has held back.

    A kind is a logger and the beginning of its message, before arguments are put in.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.RLock()
        self._ends = 0.0
        self._passed: Counter[tuple[str, str]] = Counter()
        self._held_back: Counter[tuple[str, str]] = Counter()
        self._over = threading.Event()
        self._teller: threading.Thread | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a line may be written."""
        kind = (record.name, str(record.msg).strip().partition("\n")[0][:KIND_LENGTH])
        with self._lock:
            if (now := time.monotonic()) >= self._ends:
                self._passed.clear()
                self._ends = now + LIBRARY_PERIOD_S
            if kind not in self._passed and len(self._passed) >= KINDS:
                kind = ("", "")
            self._passed[kind] += 1
            if self._passed[kind] <= LIBRARY_LINES:
                return True
            self._held_back[kind] += 1
            if self._teller is None:
                # A thread, as nothing else happens when a flood is over; it ends with it.
                atexit.register(self._tell_the_rest)
                self._teller = threading.Thread(target=self._tell, name="log", daemon=True)
                self._teller.start()
        return False

    def _tell(self) -> None:
        while not self._over.wait(LIBRARY_PERIOD_S):
            self._tell_once()
            with self._lock:
                if not self._held_back:
                    atexit.unregister(self._tell_the_rest)
                    self._teller = None
                    return

    def _tell_once(self) -> None:
        with self._lock:
            told, self._held_back = self._held_back, Counter()
        for (name, line), count in told.items():
            structlog.get_logger().warning(
                "a library's lines were left out", logger=name or "several", line=line, count=count
            )

    def _tell_the_rest(self) -> None:
        self._over.set()
        self._tell_once()


class _Shown:
    """A value whose `repr` is harmless."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def only_read(logger: object, name: str, event: EventDict) -> EventDict:
    """Let a terminal obey nothing that an event quotes; JSON escapes by itself."""
    for key, value in event.items():
        if key in {"exc_info", "exception", "stack"} or isinstance(value, int | float | None):
            continue
        if not isinstance(value, str):
            event[key] = _Shown(escape(repr(value)))
        elif key == "event":
            event[key] = escape(value.strip())
        elif (text := escape(value)) != value:
            event[key] = _Shown(f"'{text}'")
    return event


def indented_traceback(output: TextIO, error: ExcInfo) -> None:
    """Write a traceback whose lines can't be taken for events, whatever the error says."""
    text = io.StringIO()
    structlog.dev.plain_traceback(text, error)
    output.writelines(f"\n    {escape(line)}" for line in text.getvalue().strip().splitlines())
