"""Sets the log up: one line an event, for eyes on a terminal, as JSON elsewhere. Called once.

A line of JSON begins with timestamp, level and event, in this order, whoever logged it. Lines below
a warning leave together at the end of their turn of the event loop, as a busy service logs dozens
in one; a warning leaves at once, behind whatever waits. What each text leaves may wait for a few
milliseconds: lines that are made and written by the dozen cost half as much. What libraries log is
bounded: a stranger decides how often uvicorn complains of malformed requests.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import logging
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Literal, TextIO

import msgspec
import structlog

from service.core.plain_text import escape_in_json
from service.host.log_lines import LibraryLimit, indented_traceback, only_read
from service.host.uncaught import tell_of_uncaught

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor

CLOCK = "%H:%M:%S"
"""A line's time on a terminal, whose reader knows the day."""

PIECE_BYTES = 4096
"""Most that is written at once. POSIX keeps as much in one piece on a pipe that several processes
write to (PIPE_BUF, on Linux); more could be cut by another process's line."""

SOON_S = 0.02
"""Longest that a line of `Lines.soon` waits for others."""

SOON_LINES = 64
"""Lines that wait no longer: making more at once would hold up the loop."""


def set_up_logs(form: Literal["auto", "console", "json"], level: str) -> Callable[..., None] | None:
    """Send structlog's and the libraries' events to standard error.

    Tracebacks come without the values of variables, which may be secrets or people's texts.

    form: "auto" is "console" on a terminal and "json" elsewhere. level: the least one shown;
        of libraries never less than a warning.
    Returns what logs events of level info by the dozen, called with an event and its facts as
        keywords; None when the level hides them.
    """
    console = form == "console" or (form == "auto" and sys.stderr.isatty())
    lines = Lines(sys.stderr)
    atexit.register(lines.flush)
    first: list[Processor] = [structlog.contextvars.merge_contextvars]
    last: list[Processor]
    line: Callable[[float, str, EventDict], str]
    if console:
        first += [
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt=CLOCK, utc=False),
        ]
        render = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), pad_event_to=0, exception_formatter=indented_traceback
        )
        line = partial(_console_line, render)
        last = [only_read, render]
    else:
        json_line = JsonLine(utf8=(sys.stderr.encoding or "").lower() == "utf-8")
        line = partial(json_line.render, "info")
        last = [_tell_exception, json_line]
    least = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*first, *last],
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=lambda *_: lines,
        cache_logger_on_first_use=False,
    )
    handler = _Libraries(lines)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[_drop_record, *last], foreign_pre_chain=first
        )
    )
    handler.addFilter(LibraryLimit())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(max(least, logging.WARNING))
    tell_of_uncaught()

    def tell(event: str, /, **facts: object) -> None:
        lines.soon(partial(line, time.time(), event, facts))

    return tell if least <= logging.INFO else None


def _console_line(
    render: structlog.dev.ConsoleRenderer, at: float, event: str, facts: EventDict
) -> str:
    clock = time.strftime(CLOCK, time.localtime(at))
    shown = {"timestamp": clock, "level": "info", "event": event, **facts}
    return render(None, "info", only_read(None, "info", shown))


class Lines:
    """Writes lines to a stream; structlog's logger, below the processors."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        # A finalizer may log in the middle of it, on the same thread.
        self._lock = threading.RLock()
        self._writing = False
        self._waiting: list[str | Callable[[], str]] = []
        self._turn: asyncio.AbstractEventLoop | None = None
        self._later: asyncio.AbstractEventLoop | None = None

    def info(self, line: str) -> None:
        """Write a line at the end of this turn of the loop; without a loop, at once."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.warning(line)
            return
        with self._lock:
            self._waiting.append(line)
            self._flush_after_turn(loop)

    def soon(self, make: Callable[[], str]) -> None:
        """Make a line and write it with others, `SOON_S` later at most; without a loop, at once."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.warning(make())
            return
        with self._lock:
            self._waiting.append(make)
            if len(self._waiting) >= SOON_LINES:
                self._flush_after_turn(loop)
            elif self._later is not loop:
                self._later = loop
                loop.call_later(SOON_S, self._flush_late)

    def _flush_after_turn(self, loop: asyncio.AbstractEventLoop) -> None:
        # Another loop may have ended before its turn did.
        if self._turn is not loop:
            self._turn = loop
            loop.call_soon(self.flush)

    def _flush_late(self) -> None:
        with self._lock:
            self._later = None
        self.flush()

    def warning(self, line: str) -> None:
        """Write a line at once, behind those that wait."""
        with self._lock:
            self._waiting.append(line)
        self.flush()

    debug = info
    error = critical = warning

    def flush(self) -> None:
        """Write what waits, as few pieces as may be, each of whole lines."""
        with self._lock:
            self._turn = None
            if self._writing:
                return  # What a finalizer said meanwhile leaves with the rest.
            self._writing = True
            try:
                while self._waiting:
                    waiting, self._waiting = self._waiting, []
                    self._write_all(waiting)
            finally:
                self._writing = False

    def _write_all(self, waiting: list[str | Callable[[], str]]) -> None:
        piece: list[str] = []
        length = 0
        for each in waiting:
            line = each if isinstance(each, str) else each()
            # Counted in bytes only where it matters: most lines are ASCII or nearly so.
            size = len(line) + 1 if line.isascii() else len(line.encode(errors="replace")) + 1
            if piece and length + size > PIECE_BYTES:
                self._write(piece)
                piece, length = [], 0
            piece.append(line)
            length += size
        if piece:
            self._write(piece)

    def _write(self, lines: list[str]) -> None:
        # A log that nobody reads any more, or a full disk, must not end what logs.
        with suppress(OSError, ValueError):
            self._stream.write("\n".join((*lines, "")))
            self._stream.flush()


class JsonLine:
    """Renders an event as a line of JSON; structlog's last processor.

    utf8: the line may hold any printable character; otherwise ASCII alone.
    """

    def __init__(self, *, utf8: bool) -> None:
        self._utf8 = utf8
        self._beginning = (0, "")
        self._encode = msgspec.json.Encoder(enc_hook=repr).encode

    def __call__(self, logger: object, name: str, event: EventDict) -> str:
        """Render; name: the level's."""
        return self.render(name, time.time(), event.pop("event", ""), event)

    def render(self, level: str, at: float, event: str, facts: EventDict) -> str:
        """Render an event with what is known of it; at: when it happened, seconds since 1970."""
        whole = {"timestamp": self._stamp(at), "level": level, "event": event, **facts}
        if self._utf8:
            try:
                line = msgspec.json.format(self._encode(whole), indent=0).decode()
            except (TypeError, ValueError):
                pass  # Halves of characters, and keys that JSON has no form for.
            else:
                # What is not may hide or turn around what a line says, or be taken for its end.
                if line.isprintable():
                    return line
        return escape_in_json(json.dumps(whole, default=repr))

    def _stamp(self, at: float) -> str:
        """Write a time, to the microsecond; its beginning is made once a second."""
        second = int(at)
        known, text = self._beginning
        if known != second:
            text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._beginning = second, text
        return f"{text}.{int((at - second) * 1e6):06d}Z"


_render_exception = structlog.processors.ExceptionRenderer(
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
)


def _tell_exception(logger: object, name: str, event: EventDict) -> EventDict:
    # Asked here, as structlog's own way of finding out that there is none takes twice as long.
    return _render_exception(logger, name, event) if "exc_info" in event else event


class _Libraries(logging.Handler):
    """Writes the libraries' events among ours."""

    def __init__(self, lines: Lines) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._lines.warning(self.format(record))
        except Exception:  # noqa: BLE001  (logging's own rule for handlers)
            self.handleError(record)


def _drop_record(logger: object, name: str, event: EventDict) -> EventDict:
    return structlog.stdlib.ProcessorFormatter.remove_processors_meta(
        logging.getLogger(), name, event
    )
