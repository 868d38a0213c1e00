"""What nobody caught becomes a line of the log like any other, instead of text among its lines.

Used by `logs`. asyncio and uvicorn write through `logging`, which `logs` has already. The one thing
that is left is `faulthandler`, where somebody asks for it: a process that is crashing in C can
do no more than write.

Of threads and finalizers nobody knows whether they are a handler's, so what their errors say is
left out: it may be somebody's text.
"""

from __future__ import annotations

import logging
import sys
import threading
from types import TracebackType

import structlog

from service.core.causes import cause_of, kind_of

log = structlog.get_logger()


def tell_of_uncaught() -> None:
    """Send uncaught errors of all threads, and warnings, to the log; for the whole process."""
    logging.captureWarnings(capture=True)
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread
    sys.unraisablehook = _unraisable


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    log.critical("an error that nobody caught ends the process", **cause_of(error), exc_info=error)


def _uncaught_in_thread(uncaught: threading.ExceptHookArgs) -> None:
    error = uncaught.exc_value
    if error is None or isinstance(error, SystemExit):
        return
    name = uncaught.thread.name if uncaught.thread is not None else None
    log.error("a thread ended with an error", thread=name, **kind_of(error))


def _unraisable(found: sys.UnraisableHookArgs) -> None:
    error = found.exc_value
    if error is None:
        return
    log.error("an error could not be raised", where=type(found.object).__name__, **kind_of(error))
