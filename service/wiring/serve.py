"""`parley serve`: settings, listeners and a Redis of our own, then one process or several."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import structlog

from service.core.tested import REDIS, UVICORN
from service.errors import SettingsError
from service.handlers.loading import load_router
from service.host.descriptors import needed_for, raise_limit
from service.host.embedded import EmbeddedRedis
from service.host.listeners import inherit, listen
from service.host.logs import set_up_logs
from service.host.notify import NOTIFY_SOCKET, OurSupervisor, Starter, Systemd
from service.host.slots import parse_slot
from service.settings.loading import find_near_names
from service.settings.setup import Given, load_given
from service.settings.sources import MADE_UP, own_key_file, wants_key
from service.settings.table import Settings
from service.wiring.dead_workers import worker_id
from service.wiring.several import run_several

if TYPE_CHECKING:
    from service.wiring.process import Process, ProcessRole

log = structlog.get_logger()


def serve_with(
    *,
    host: str | None,
    port: int | None,
    processes: int | None,
    role: ProcessRole,
    **handed_over: Any,
) -> int:
    """Run the service with the settings there are, the command line's options over them.

    A SECRET_KEY is made up for a Redis of our own that is new, and kept with it.
    handed_over: as for `serve`, which says what is raised.
    """
    given = {"host": host, "port": port, "processes": processes}
    options = {name: str(value) for name, value in given.items() if value is not None}
    if wants_key(os.environ, options):
        options["secret_key"] = secrets.token_hex(32)
    return serve(load_given(options=options), role, **handed_over)


def serve(
    given: Given,
    role: ProcessRole,
    *,
    fd: int | None,
    internal_fd: int | None,
    slot: str | None,
    worker: str | None,
    up_fd: int | None,
    stop_with_stdin: bool,
) -> int:
    """Run the service until it is told to stop; returns the exit status.

    given: what the settings say; the rest may be typed while it runs, see `parts.setup`.
    fd, internal_fd: inherited listeners, instead of those the settings name.
    slot: where this process leaves its figures for its siblings, see `service.host.slots`.
    worker: its id as an owner of partitions, by which its supervisor gives up what it leaves.
    up_fd: where it tells the supervisor that it is up, see `service.host.notify`.
    stop_with_stdin: stop when standard input ends, that is, with the process that started us.
    Raises SettingsError, HandlersError or StoreMismatch for what an operator must mend.
    """
    settings = given.partial()
    tell = set_up_logs(settings.log_format, settings.log_level)
    raise_limit(needed=needed_for(settings.send_concurrency, settings.handler_concurrency))
    if slot is None:  # else the supervisor has said so
        _say_doubts()
    # Loaded before anything listens: a broken handlers file must not take a single callback.
    router = load_router(settings.handlers, settings.config_dir)
    for doubt in router.doubts:
        log.warning("a route is hardly ever reached", route=doubt)
    public = None
    if role != "worker":
        public = inherit(fd) if fd is not None else listen(settings.host, settings.port, "PORT")
    internal = _internal_listener(settings) if internal_fd is None else inherit(internal_fd)
    key_file = own_key_file(given.gathered)
    with _redis_of(given) as redis_url:
        if settings.processes > 1:
            manager = _service_manager()
            return run_several(
                settings, role, redis_url, public, internal, starter=manager, key_file=key_file
            )
        # Here, as a supervisor needs none of it: what a process is made of takes half of a start.
        from service.wiring.alone import run_alone
        from service.wiring.process import Process

        slots = parse_slot(slot) if slot else None
        starter: Starter = _service_manager()
        if slots is not None and up_fd is not None:
            starter = OurSupervisor(up_fd, slots.own)

        def make(let_go: Callable[[], None]) -> Process:
            return Process(
                given,
                role,
                redis_url,
                router,
                starter=starter,
                slots=slots,
                worker=worker or worker_id(),
                let_go=let_go,
                tell=tell if settings.log_texts else None,
            )

        status, hangs = run_alone(
            make, public, internal, stop_with_stdin=stop_with_stdin, again=slots is None
        )
    if hangs:
        # Threads and tasks that do not end would be waited for.
        os._exit(status)
    return status


@contextmanager
def _redis_of(given: Given) -> Iterator[str]:
    """Find the service's Redis; without REDIS_URL, run one of our own as long as the service."""
    settings = given.partial()
    if settings.redis_url:
        yield settings.redis_url.get_secret_value()
        return
    embedded = EmbeddedRedis(settings.data_dir, settings.config_dir / "redis.conf")
    made_up = given.gathered.found["secret_key"].source == MADE_UP
    embedded.start(key=settings.secret_key.get_secret_value() if made_up else "")
    log.info(
        "REDIS_URL is unset: running a Redis of our own",
        server=embedded.binary,
        folder=str(settings.data_dir),
    )
    if made_up:
        # Whoever copies the folder has both; who wants them apart sets SECRET_KEY from the start.
        log.info(
            "SECRET_KEY is unset: one was made up, and is kept with that Redis",
            file=str(own_key_file(given.gathered)),
        )
    try:
        yield embedded.url
    finally:
        embedded.stop()


def _say_doubts() -> None:
    """Warn of what is odd about this machine, and hardly meant."""
    for doubt in find_near_names():
        log.warning("the environment has a name that is almost a setting's", doubt=doubt)
    for library in (REDIS, UVICORN):
        if not library.covers():
            log.warning(
                "a library was not tested in this version: its short cut is not taken",
                library=library.name,
                version=library.installed(),
                tested=library.span,
            )


def _service_manager() -> Systemd:
    return Systemd(os.environ.get(NOTIFY_SOCKET, ""))


def _internal_listener(settings: Settings) -> socket.socket:
    host, port = settings.internal_host, settings.internal_port
    if settings.internal_port_given:
        return listen(host, port, "INTERNAL_PORT")
    try:
        return listen(host, port, "INTERNAL_PORT")
    except SettingsError:
        # Nobody chose this port, so a second process on the machine takes a free one.
        listener = listen(host, 0, "INTERNAL_PORT")
        log.warning("INTERNAL_PORT is taken; using a free one", port=listener.getsockname()[1])
        return listener
