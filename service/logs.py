"""Sets the log up: one line an event, for eyes on a terminal, as JSON elsewhere. Called once.

What libraries log comes in the same form, and is bounded: a stranger decides how often uvicorn
complains of malformed requests.
"""

from __future__ import annotations

import atexit
import io
import logging
import sys
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Literal, TextIO

from service.core.plain_text import escape

# What structlog imports where it is installed and is never used here: rich for tracebacks, 5 MB in
# every process, and greenlet, 1 MB.
_hidden = {"rich", "greenlet"} - sys.modules.keys()
sys.modules |= dict.fromkeys(_hidden)  # type: ignore[arg-type]
import structlog  # noqa: E402

for _name in _hidden:
    del sys.modules[_name]

if TYPE_CHECKING:
    from structlog.typing import EventDict, ExcInfo, Processor

LIBRARY_LINES = 2
"""Lines of one kind that a library may write in `LIBRARY_PERIOD_S`; of the rest, their number."""

LIBRARY_PERIOD_S = 1.0

KINDS = 100
"""Kinds of lines told apart; a library that writes ever new ones shares one count for the rest."""

KIND_LENGTH = 80
"""Characters of a line that make its kind: what differs comes later, or as an argument."""


def set_up_logs(form: Literal["auto", "console", "json"], level: str) -> None:
    """Send structlog's and the libraries' events to standard error.

    Tracebacks come without the values of variables, which may be secrets or people's texts.

    form: "auto" is "console" on a terminal and "json" elsewhere. level: the least one shown;
        of libraries never less than a warning.
    """
    console = form == "console" or (form == "auto" and sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if console else "iso", utc=not console),
    ]
    last: list[Processor] = (
        [
            _only_read,
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), pad_event_to=0, exception_formatter=_indented_traceback
            ),
        ]
        if console
        else [
            structlog.processors.ExceptionRenderer(
                structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
            ),
            structlog.processors.JSONRenderer(),
        ]
    )
    least = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[_drop_record, *last], foreign_pre_chain=shared
        )
    )
    handler.addFilter(_LibraryLimit())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(max(least, logging.WARNING))


class _LibraryLimit(logging.Filter):
    """Lets `LIBRARY_LINES` of each kind pass, and says once a period how many it has held back.

    A kind is a logger and the beginning of its message, before arguments are put in.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
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


def _only_read(logger: object, name: str, event: EventDict) -> EventDict:
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


def _indented_traceback(output: TextIO, error: ExcInfo) -> None:
    """Write a traceback whose lines can't be taken for events, whatever the error says."""
    text = io.StringIO()
    structlog.dev.plain_traceback(text, error)
    output.writelines(f"\n    {escape(line)}" for line in text.getvalue().strip().splitlines())


def _drop_record(logger: object, name: str, event: EventDict) -> EventDict:
    return structlog.stdlib.ProcessorFormatter.remove_processors_meta(
        logging.getLogger(), name, event
    )
