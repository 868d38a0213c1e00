"""Tells whoever started this process that it is up, and that it stops.

That is systemd, with `Type=notify`, or our own supervisor. By hand, as it is one datagram: of the
packages, sdnotify has not been touched since 2017 and says nothing of what fails, and
systemd-python has to be compiled against systemd's headers.
"""

from __future__ import annotations

import os
import socket
from typing import Protocol

import structlog

log = structlog.get_logger()

NOTIFY_SOCKET = "NOTIFY_SOCKET"
"""Where systemd hears from a service of `Type=notify`; it sets this, and no operator does."""


class Starter(Protocol):
    """Whoever started this process."""

    def up(self) -> None:
        """Tell that everything listens and Redis was reached."""

    def stopping(self) -> None:
        """Tell that a stop has begun."""


class Systemd:
    """The service manager.

    address: NOTIFY_SOCKET, a path, or a name that begins with "@" (abstract); "" when there is
        none, which is told nothing. Trouble is logged: nothing here may keep the service from
        running.
    Source: sd_notify(3).
    """

    def __init__(self, address: str) -> None:
        self._address = address

    def up(self) -> None:
        """Say READY=1."""
        self._send("READY=1")

    def stopping(self) -> None:
        """Say STOPPING=1."""
        self._send("STOPPING=1")

    def _send(self, state: str) -> None:
        if not self._address:
            return
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.sendto(state.encode(), address)
        except OSError as error:
            log.warning(
                "the service manager can't be told", state=state, error=error.strerror or str(error)
            )


class OurSupervisor:
    """The supervisor of several processes, which hears from each through one inherited pipe.

    fd: the pipe's end to write to. number: this process's, 0 to 255.
    """

    def __init__(self, fd: int, number: int) -> None:
        self._fd = fd
        self._number = number

    def up(self) -> None:
        """Write our number."""
        try:
            os.write(self._fd, bytes([self._number]))
        except OSError as error:
            # It has ended, and standard input's end is about to tell us so.
            log.warning("the supervisor can't be told", error=error.strerror)

    def stopping(self) -> None:
        """Nothing: it is the supervisor that stops us."""


def numbers_told(fd: int) -> set[int]:
    """Read which processes have told that they are up since the last look.

    fd: the pipe's end to read from, which does not block.
    """
    try:
        return set(os.read(fd, 4096))
    except BlockingIOError:
        return set()
