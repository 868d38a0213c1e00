"""Listeners, the uvicorn servers on them, and what tells the process that runs them to stop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import socket
import sys
from collections.abc import Iterator
from typing import Any, cast

from uvicorn import Config, Server

from service.errors import SettingsError
from service.host.answers import AsgiApp
from service.host.bounded import Connections

BACKLOG = 2048
"""Connections the kernel holds while the process is busy: a second of a rush, at most."""


def listen(host: str, port: int, setting: str) -> socket.socket:
    """Bind a listener; port 0 takes a free one.

    setting: name of the port's setting, for the error; with HOST for PORT, the host's.
    Raises SettingsError when the address can't be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named TCP: with protocol 0 asyncio leaves Nagle's algorithm on, 40 ms per kept-alive answer.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        # Belongs to it: as long as neither listens, two processes may bind the same port.
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        # In use, or for root alone; whatever else is wrong is wrong with the host.
        of_port = error.errno in {errno.EADDRINUSE, errno.EACCES}
        wrong = setting if of_port else setting.replace("PORT", "HOST").replace("port", "host")
        raise SettingsError(
            [f"{wrong}: {host}:{port} is not to be had ({error.strerror}); choose another"]
        ) from error
    listener.setblocking(False)
    return listener


class AppServer(Server):
    """One uvicorn server on an inherited listener; started and stopped by us.

    http: makes the connections: uvicorn's own class for them knows no bounds.
    dated: its answers have a Date.
    """

    def __init__(
        self,
        app: AsgiApp,
        listener: socket.socket,
        *,
        stop_s: float,
        http: Connections,
        dated: bool = False,
    ) -> None:
        super().__init__(
            Config(
                app,
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                # Nothing here believes X-Forwarded headers, so nobody need read them.
                proxy_headers=False,
                date_header=dated,
                http=cast("Any", http),
                ws="none",
                timeout_graceful_shutdown=max(1, int(stop_s)),
            )
        )
        self._listener = listener

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone: one process runs several servers and stops them in order."""
        yield

    async def run_until(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set; then finish the requests under way.

        Raises whatever ended it before; it may then be run again, on the same listener.
        """
        # uvicorn closes what it is given.
        listener = self._listener.dup()
        self.servers, self.started, self.should_exit = [], False, False
        serving = asyncio.create_task(self.serve(sockets=[listener]))
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
            if stop.is_set():
                self._listener.close()
            self.should_exit = True
            await serving
        except BaseException:
            serving.cancel()
            for server in self.servers:
                server.close()
            listener.close()
            raise
        finally:
            stopping.cancel()
        if not stop.is_set():
            raise RuntimeError("the server has ended although nobody asked it to")


def inherit(fd: int) -> socket.socket:
    """Take over a listener that the process which started us has bound."""
    listener = socket.socket(fileno=fd, proto=socket.IPPROTO_TCP)
    listener.setblocking(False)
    return listener


def stop_event(*, stop_with_stdin: bool) -> asyncio.Event:
    """Return an event that SIGTERM, SIGINT and, if asked for, the end of standard input set."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if stop_with_stdin:

        def ended() -> None:
            if not os.read(sys.stdin.fileno(), 4096):
                loop.remove_reader(sys.stdin.fileno())
                stop.set()

        loop.add_reader(sys.stdin.fileno(), ended)
    return stop
