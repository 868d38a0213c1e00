"""Runs copies of `parley serve` side by side on shared listeners, and starts dead ones again."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from types import FrameType

import structlog

from service.core.pauses import Pauses
from service.errors import OPERATOR_MUST_MEND
from service.host.notify import Starter, numbers_told

log = structlog.get_logger()

RESTART_FIRST_S = 0.5
HEALTHY_S = 30.0
"""A process that lived this long is started again at once when it dies."""

POLL_S = 0.05


class Supervisor:
    """Keeps `count` processes running.

    arguments: of `python -m service`, the same for each; own_arguments: those of one start, by the
    process's number from 0, which it keeps when it is started again. environ: their environment.
    inherited: descriptors they inherit. stop_s: what they get to stop before they are killed.
    died: told the number of a process that ended, or was killed, without being asked to end.
    told: the pipe they tell through that they are up (see `host.notify`). starter: whom to tell
    when all of them are, and when they are stopped.
    """

    def __init__(
        self,
        count: int,
        arguments: Sequence[str],
        environ: Mapping[str, str],
        inherited: Sequence[int],
        *,
        own_arguments: Callable[[int], Sequence[str]],
        stop_s: float,
        died: Callable[[int], None] = lambda _: None,
        told: int,
        starter: Starter,
    ) -> None:
        self._command = [sys.executable, "-m", "service", *arguments]
        self._environ = dict(environ)
        self._inherited = inherited
        self._stop_s = stop_s
        self._told = told
        self._starter = starter
        self._missing = set(range(count))
        self._stopping = False
        self._own_arguments = own_arguments
        self._died = died
        self._children: list[_Child] = [_Child(number) for number in range(count)]

    def run(self) -> int:
        """Run until SIGTERM or SIGINT, or until a process says that its settings are wrong.

        Returns the exit status of the whole.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._asked_to_stop)
        status = 0
        while not self._stopping:
            for child in self._children:
                status = self._look_after(child) or status
            if status:
                break
            self._hear()
            time.sleep(POLL_S)
        self._starter.stopping()
        self._stop_all()
        return status

    def _asked_to_stop(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True

    def _hear(self) -> None:
        """Hear which processes are up; once every one has been, tell our own starter."""
        if self._missing:
            self._missing -= numbers_told(self._told)
            if not self._missing:
                self._starter.up()

    def _look_after(self, child: _Child) -> int:
        now = time.monotonic()
        if child.process is not None:
            code = child.process.poll()
            if code is None:
                return 0
            if (pipe := child.process.stdin) is not None:
                pipe.close()
            if code == OPERATOR_MUST_MEND:
                return code
            self._died(child.number)
            pause_s = child.pauses.after(now - child.started)
            log.error(
                "a process ended and is started again",
                pid=child.process.pid,
                status=code,
                in_s=pause_s,
            )
            child.process = None
            child.due = now + pause_s
        if now >= child.due:
            self._start(child, now)
        return 0

    def _start(self, child: _Child, now: float) -> None:
        """Start a process; one that the machine has no room for now is tried again later."""
        child.started = now
        try:
            child.process = subprocess.Popen(
                [*self._command, *self._own_arguments(child.number)],
                env=self._environ,
                # Kept open and never written to: its end tells the child that we are gone.
                stdin=subprocess.PIPE,
                pass_fds=self._inherited,
            )
        except OSError as error:
            pause_s = child.pauses.after(0)
            child.due = now + pause_s
            log.error("a process can't be started", error=str(error), in_s=pause_s)

    def _stop_all(self) -> None:
        running = [(child, process) for child in self._children if (process := child.process)]
        for _, process in running:
            if process.poll() is None:
                process.terminate()
        deadline = time.monotonic() + self._stop_s
        for child, process in running:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                log.error("a process did not stop in time and is killed", pid=process.pid)
                process.kill()
                process.wait()
                self._died(child.number)


class _Child:
    def __init__(self, number: int) -> None:
        self.number = number
        self.process: subprocess.Popen[bytes] | None = None
        self.started = 0.0
        self.due = 0.0
        self.pauses = Pauses(first_s=RESTART_FIRST_S, healthy_s=HEALTHY_S)
