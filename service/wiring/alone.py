"""One process of `parley serve`, started anew in place where nobody else would do it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable

import structlog

from service.core.causes import cause_of
from service.core.pauses import Pauses
from service.errors import (
    OPERATOR_MUST_MEND,
    HandlersError,
    KeepsFailing,
    SettingsError,
    StoreMismatch,
)
from service.host import loop
from service.host.listeners import stop_event
from service.wiring.process import Process
from service.workers.supervised import FAILURES

log = structlog.get_logger()

Make = Callable[[Callable[[], None]], Process]
"""Builds a process from what it calls once it was told to stop."""


def run_alone(
    make: Make,
    public: socket.socket | None,
    internal: socket.socket,
    *,
    stop_with_stdin: bool,
    again: bool,
) -> tuple[int, bool]:
    """Run a process until it is told to stop, anew after an error that nobody expected.

    again: start it anew; without it, and when it keeps failing, the error ends it with status 1.
    Returns the exit status, and whether something hangs that must be ended by force.
    Raises SettingsError and HandlersError, which only the operator can mend.
    """
    pauses = Pauses()

    def let_go() -> None:
        for each in (public, internal):
            if each is not None:
                each.close()

    while True:
        began = time.monotonic()
        process = make(let_go)
        try:
            return _run_once(process, public, internal, stop_with_stdin), process.hangs
        except (SettingsError, HandlersError):
            raise
        except Exception as error:
            pause_s = pauses.after(time.monotonic() - began)
            # Beside a handler that hangs, its message would begin a second time.
            last = not again or process.stopping or process.hangs or pauses.in_a_row >= FAILURES
            log.error(
                "Parley failed" if last else "Parley failed and is started anew",
                **cause_of(error),
                failures=pauses.in_a_row,
                in_s=None if last else pause_s,
                exc_info=error,
            )
            if last:
                return 1, process.hangs
        if loop.run(_told_to_stop(pause_s, stop_with_stdin=stop_with_stdin)):
            return 0, False


def _run_once(
    process: Process,
    public: socket.socket | None,
    internal: socket.socket,
    stop_with_stdin: bool,  # noqa: FBT001
) -> int:
    # It closes what it is given; the next start needs them again.
    given = public and public.dup(), internal.dup()
    runner = loop.make_runner()
    try:
        return runner.run(process.run(*given, stop_with_stdin=stop_with_stdin))
    except StoreMismatch as error:
        log.error("Parley can't go on", error=str(error))
        return OPERATOR_MUST_MEND
    except KeepsFailing:
        return 1  # The log has said it.
    finally:
        # Its end waits for whatever was cancelled, even for what does not obey.
        if not process.hangs:
            runner.close()
        for listener in given:
            if listener is not None:
                listener.close()


async def _told_to_stop(within_s: float, *, stop_with_stdin: bool) -> bool:
    """Pause; True as soon as the process is told to stop."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            return await stop_event(stop_with_stdin=stop_with_stdin).wait()
    return False
