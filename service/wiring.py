"""Builds the service from Settings: clients, loops, apps, and the order they start and stop in.

The only module that knows how the parts fit together; `cli` calls it and nothing else.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import structlog
import uvloop

from service.connector.backfill import Backfill
from service.connector.client import MESSAGE_NAMES, Connector
from service.connector.provisioning import INSTANCE_NAMES, Provisioner, Wanted
from service.core.breaker import Breaker
from service.core.elements import ELEMENTS
from service.core.overrides import with_overrides
from service.core.retry import Schedule
from service.core.sealing import Sealer
from service.core.signature import Verifier
from service.core.signature_hints import Explanation, explain
from service.core.template_check import Comparison, compare
from service.core.templates import Template
from service.errors import ConnectorFailed, SettingsError, StoreUnavailable
from service.handlers.loading import load_router
from service.logs import set_up_logs
from service.model import Partition
from service.processes import Supervisor
from service.serving import AppServer, listen
from service.settings import CALLBACK_PATH, Settings, load_settings, packaged_config
from service.store.arrivals import Arrivals
from service.store.batch import Batch
from service.store.connection import Redis, connect, ping
from service.store.dead_letters import DeadLetters
from service.store.durability import Verdict, look
from service.store.embedded import EmbeddedRedis
from service.store.inbox import Inbox
from service.store.instances import Instances
from service.store.layout import claim_partition_count
from service.store.leases import Leases
from service.store.pace import Pace
from service.store.partition import PartitionStore
from service.store.watch import Watch
from service.store.watermark import Watermark
from service.web.callbacks import Door
from service.web.connections import connections
from service.web.internal import Check, internal_app
from service.web.public import public_app, written_paths
from service.workers.handling import Handling
from service.workers.owner import Owner
from service.workers.partitions import Partitions
from service.workers.sending import Sending

if TYPE_CHECKING:
    from service.handlers.router import Router

log = structlog.get_logger()

Role = Literal["web", "worker", "all"]

STOP_GRACE_S = 7.0
"""What requests, handlers and POSTs under way get at a stop; container platforms give 10 s."""

LAYOUT_RETRY_S = 1.0

SPARE_CONNECTIONS = 4
"""Connections to the connector beside the replies': provisioning and looks into its log."""


def settings_from(*, host: str | None, port: int | None, processes: int | None) -> Settings:
    """Load the settings, the command line's options over everything else.

    Raises SettingsError.
    """
    given = {"HOST": host, "PORT": port, "PROCESSES": processes}
    options = {name: str(value) for name, value in given.items() if value is not None}
    return load_settings(environ={**os.environ, **options})


def explain_signature(
    url: str,
    body: bytes,
    signature: str,
    tokens: Sequence[str],
    *,
    signed_with: str | None,
    shared_keys: Mapping[str, str],
) -> Explanation:
    """Tell why a signature does not match; see `service.core.signature_hints.explain`."""
    return explain(url, body, signature, tokens, signed_with=signed_with, shared_keys=shared_keys)


def serve_with(
    *, host: str | None, port: int | None, processes: int | None, role: Role, **handed_over: Any
) -> int:
    """Run the service with the settings there are, the command line's options over them.

    handed_over: as for `serve`, which says what is raised.
    """
    settings = settings_from(host=host, port=port, processes=processes)
    return serve(settings, role, **handed_over)


def serve(
    settings: Settings,
    role: Role,
    *,
    fd: int | None,
    internal_fd: int | None,
    stop_with_stdin: bool,
) -> int:
    """Run the service until it is told to stop; returns the exit status.

    fd, internal_fd: inherited listeners, instead of those the settings name.
    stop_with_stdin: stop when standard input ends, that is, with the process that started us.
    Raises SettingsError, HandlersError or StoreMismatch for what an operator must mend.
    """
    set_up_logs(settings.log_format, settings.log_level)
    # Loaded before anything listens: a broken handlers file must not take a single callback.
    router = load_router(settings.handlers, settings.config_dir)
    public = None
    if role != "worker":
        public = _inherit(fd) if fd is not None else listen(settings.host, settings.port, "PORT")
    internal = _internal_listener(settings) if internal_fd is None else _inherit(internal_fd)
    embedded = None
    redis_url = settings.redis_url.get_secret_value() if settings.redis_url else ""
    if not redis_url:
        embedded = EmbeddedRedis(settings.data_dir, settings.config_dir / "redis.conf")
        embedded.start()
        redis_url = embedded.url
        log.info(
            "REDIS_URL is unset: running a Redis of our own",
            server=embedded.binary,
            folder=str(settings.data_dir),
        )
    try:
        if settings.processes > 1:
            return _serve_many(settings, role, redis_url, public, internal)
        service = Service(settings, role, redis_url, router)
        return uvloop.run(service.run(public, internal, stop_with_stdin=stop_with_stdin))
    finally:
        if embedded is not None:
            embedded.stop()


@asynccontextmanager
async def open_store(settings: Settings) -> AsyncIterator[tuple[Redis, Batch]]:
    """Open the deployment's Redis for a command.

    Without REDIS_URL that is the embedded one: the running service's, or, if none runs, one
    started for the time being. Raises SettingsError, StoreUnavailable, StoreMismatch.
    """
    embedded = None
    url = settings.redis_url.get_secret_value() if settings.redis_url else ""
    if not url:
        embedded = EmbeddedRedis(settings.data_dir, settings.config_dir / "redis.conf")
        url = embedded.url
        if embedded.answers():
            embedded = None
        else:
            embedded.start()
    client = connect(url)
    batch = Batch(client)
    try:
        batch.confirm((await _look(client, settings)).confirmations)
        await claim_partition_count(client, settings.partitions)
        yield client, batch
    finally:
        await batch.aclose()
        await client.aclose()
        if embedded is not None:
            embedded.stop()


@asynccontextmanager
async def open_provisioner(settings: Settings) -> AsyncIterator[Provisioner]:
    """Open what looks after the connector's instance, for a command.

    Raises SettingsError, StoreUnavailable, StoreMismatch.
    """
    wanted, message = _wanted_instance(settings), _message_template(settings)
    sealer = Sealer(settings.secret_keys)
    async with open_store(settings) as (client, _):
        connector = _connector(settings, message)
        try:
            yield Provisioner(connector, Instances(client, sealer), sealer, wanted)
        finally:
            await connector.aclose()


@asynccontextmanager
async def open_backfill(settings: Settings) -> AsyncIterator[Backfill]:
    """Open what reads missed texts back, for a command.

    Raises SettingsError without an instance in Redis, StoreUnavailable, StoreMismatch.
    """
    message, sealer = _message_template(settings), Sealer(settings.secret_keys)
    async with open_store(settings) as (client, batch):
        instance = await Instances(client, sealer).load()
        if instance is None:
            raise SettingsError(["there is no instance in this Redis; see `parley connector plan`"])
        connector = _connector(settings, message)
        connector.use_token(instance.token)
        try:
            yield _backfill(settings, client, batch, connector)
        finally:
            await connector.aclose()


def _backfill(settings: Settings, client: Redis, batch: Batch, connector: Connector) -> Backfill:
    inbox = Inbox(
        batch,
        partitions=settings.partitions,
        window_s=settings.dedupe_window_s,
        # The rest is for callbacks: thousands of missed texts must not have new ones turned away.
        limit=max(1, settings.inbox_limit // 2),
    )
    return Backfill(
        connector,
        inbox,
        Watermark(client),
        account=settings.twilio_account_sid,
        sender=settings.twilio_sender,
        overlap=timedelta(seconds=settings.backfill_overlap_s),
        longest=timedelta(seconds=settings.backfill_max_s),
    )


async def check_message(settings: Settings) -> tuple[str, Comparison]:
    """Compare the reply's template with what our instance says of its own API; sends nothing.

    Returns the template's file, and what was found. Raises ConnectorError, and as
        `open_provisioner`.
    """
    template = _message_template(settings)
    async with open_provisioner(settings) as provisioner:
        found = compare(template.fields, await provisioner.describe())
    if found is None:
        raise ConnectorFailed("the instance's API description has no fields for POST /messages")
    return template.place, found


def _connector(settings: Settings, message: Template) -> Connector:
    return Connector(
        settings.open_connectors_base_url,
        user_secret=settings.open_connectors_user_secret.get_secret_value(),
        organization_secret=settings.open_connectors_organization_secret.get_secret_value(),
        message=message,
        timeout_s=settings.send_timeout_s,
        connections=settings.send_concurrency + SPARE_CONNECTIONS,
    )


def serve_sandbox(
    host: str,
    port: int,
    *,
    user_secret: str,
    organization_secret: str,
    fd: int | None,
    stop_with_stdin: bool,
) -> None:
    """Run the sandbox until it is told to stop. Raises SettingsError."""
    from service.sandbox.app import SandboxConfig, sandbox_app

    set_up_logs("auto", "warning")
    listener = _inherit(fd) if fd is not None else listen(host, port, "--port")
    config = SandboxConfig(user_secret=user_secret, organization_secret=organization_secret)
    if fd is None:
        name, number = listener.getsockname()[:2]
        address = f"http://[{name}]:{number}" if ":" in name else f"http://{name}:{number}"
        print(  # noqa: T201  (the command's output)
            f"Phone page: {address}\n\nSettings that point Parley here:\n"
            f"  OPEN_CONNECTORS_BASE_URL={address}/elements/api-v2\n"
            f"  OPEN_CONNECTORS_USER_SECRET={_told(user_secret)}\n"
            f"  OPEN_CONNECTORS_ORGANIZATION_SECRET={_told(organization_secret)}\n",
            flush=True,
        )

    async def run() -> None:
        server = AppServer(sandbox_app(config), listener, stop_s=1)
        await server.run_until(_stop_event(stop_with_stdin=stop_with_stdin))

    uvloop.run(run())


def _told(secret: str) -> str:
    """Show a secret of the sandbox's own; one that was given may be a real one."""
    return secret if secret.startswith("sandbox-") else "(as given)"


class Service:
    """One process of the service.

    role: which parts run. redis_url: the Redis to use. router: the loaded handlers.
    """

    def __init__(self, settings: Settings, role: Role, redis_url: str, router: Router) -> None:
        self._settings = settings
        self._role = role
        self._redis_url = redis_url
        self._router = router
        self._wanted = _wanted_instance(settings)
        self._message = _message_template(settings)
        self._open = asyncio.Event()
        self._failure: Exception | None = None
        self._watch: Watch | None = None
        self._door: Door | None = None
        self._backfill: Backfill | None = None

    async def run(
        self, public: socket.socket | None, internal: socket.socket, *, stop_with_stdin: bool
    ) -> int:
        """Run until SIGTERM or SIGINT; returns the exit status. Raises StoreMismatch."""
        settings = self._settings
        stop = _stop_event(stop_with_stdin=stop_with_stdin)
        client = connect(self._redis_url)
        batch = Batch(client)
        connector = _connector(settings, self._message)
        sealer = Sealer(settings.secret_keys)
        provisioner = Provisioner(
            connector,
            Instances(client, sealer),
            sealer,
            self._wanted,
            watch_s=settings.connector_watch_s,
            repair=settings.connector_repair == "repair",
        )
        closing = asyncio.Event()
        readiness = self._readiness(client, provisioner)
        internal_server = AppServer(
            internal_app(readiness, lambda: self._counters(batch)), internal, stop_s=1
        )
        background = [asyncio.create_task(internal_server.run_until(closing))]
        try:
            provisioning = asyncio.create_task(provisioner.run())
            filling = asyncio.create_task(self._fill_gaps(client, batch, connector, provisioner))
            opening = asyncio.create_task(self._claim_layout(client, batch, stop))
            parts = []
            if public is not None:
                parts.append(self._serve_public(batch, public, stop))
            if self._role != "web":
                parts.append(self._work(client, batch, connector, provisioner, stop))
            # What was imported and built stays: the collector need not walk it again.
            gc.collect()
            gc.freeze()
            log.info("Parley is up", role=self._role, **_addresses(public, internal))
            await asyncio.gather(*parts)
            for task in (filling, provisioning, opening):
                task.cancel()
            await asyncio.gather(filling, provisioning, opening, return_exceptions=True)
            if self._failure is not None:
                raise self._failure
        finally:
            closing.set()
            await asyncio.gather(*background)
            await connector.aclose()
            await batch.aclose()
            await client.aclose()
        log.info("Parley has stopped")
        return 0

    async def _claim_layout(self, client: Redis, batch: Batch, stop: asyncio.Event) -> None:
        """Let callbacks in and partitions start once Redis is known to be laid out as we are.

        Then watch it, until cancelled.
        """
        while True:
            try:
                verdict = await _look(client, self._settings)
                await claim_partition_count(client, self._settings.partitions)
            except StoreUnavailable as error:
                log.warning("waiting for Redis", error=str(error))
                await asyncio.sleep(LAYOUT_RETRY_S)
            except Exception as error:  # noqa: BLE001  (raised when everything has stopped)
                # A mismatch, or a defect, which must not look like a Redis that is away.
                self._failure = error
                stop.set()
                return
            else:
                break
        for note in verdict.notes:
            log.warning(note)
        dead = DeadLetters(
            client,
            batch,
            partitions=self._settings.partitions,
            inbox_limit=self._settings.inbox_limit,
        )
        self._watch = Watch(
            lambda: _look(client, self._settings), dead.count, batch.confirm, verdict
        )
        self._open.set()
        await self._watch.run()

    async def _fill_gaps(
        self, client: Redis, batch: Batch, connector: Connector, provisioner: Provisioner
    ) -> None:
        """Read back what no callback brought, until cancelled."""
        settings = self._settings
        if not settings.backfill_every_s:
            return
        await self._open.wait()
        self._backfill = _backfill(settings, client, batch, connector)

        def refused() -> int:
            counted = self._door.counters if self._door is not None else None
            return 0 if counted is None else counted.unavailable + counted.busy + counted.failed

        await self._backfill.keep_filling(provisioner.ready, settings.backfill_every_s, refused)

    async def _serve_public(
        self, batch: Batch, listener: socket.socket, stop: asyncio.Event
    ) -> None:
        settings = self._settings
        inbox = Inbox(
            batch,
            partitions=settings.partitions,
            window_s=settings.dedupe_window_s,
            limit=settings.inbox_limit,
            opened=self._open,
        )
        door = Door(
            Verifier(
                settings.public_url + CALLBACK_PATH, settings.auth_tokens, settings.shared_keys
            ),
            settings.twilio_account_sid,
            inbox,
            event_key=settings.event_key,
            body_limit_bytes=settings.body_limit_bytes,
        )
        self._door = door
        prefix = urlsplit(settings.public_url).path
        app = public_app(door, callback_path=CALLBACK_PATH, prefix=prefix)
        http = connections(door, written_paths(callback_path=CALLBACK_PATH, prefix=prefix))
        await AppServer(app, listener, stop_s=STOP_GRACE_S, http=http).run_until(stop)

    async def _work(
        self,
        client: Redis,
        batch: Batch,
        connector: Connector,
        provisioner: Provisioner,
        stop: asyncio.Event,
    ) -> None:
        settings = self._settings
        waiting = [asyncio.create_task(event.wait()) for event in (self._open, stop)]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
        if stop.is_set():
            return
        executor = ThreadPoolExecutor(settings.handler_concurrency, "handler")
        handling = Handling(
            router=self._router,
            slots=asyncio.Semaphore(settings.handler_concurrency),
            executor=executor,
            timeout_s=settings.handler_timeout_s,
            schedule=_schedule(settings, settings.handler_attempts),
            opt_out_words=settings.words_left_to_twilio,
        )
        sending = Sending(
            connector=connector,
            provisioned=provisioner.ready,
            suspect=provisioner.suspect,
            breaker=Breaker(),
            pace=Pace(batch, rate) if (rate := settings.segments_per_second) else None,
            slots=asyncio.Semaphore(settings.send_concurrency),
            schedule=_schedule(settings, settings.send_attempts),
            in_doubt=settings.in_doubt,
            arrival_s=settings.send_timeout_s,
        )

        def make_owner(
            partition: Partition, token: str, asked: float, changed: Callable[[], None]
        ) -> Owner:
            store = PartitionStore(
                client, batch, partition, token, sent_window_s=settings.dedupe_window_s
            )
            return Owner(
                store,
                handling,
                sending,
                changed,
                lease_s=settings.lease_ttl_s,
                renewed=asked,
            )

        lease_ms = int(settings.lease_ttl_s * 1000)
        blocking = connect(self._redis_url, answer_timeout_s=None)
        arrivals = Arrivals(blocking)
        partitions = Partitions(
            Leases(client, batch, owner=_worker_id(), ttl_ms=lease_ms),
            arrivals,
            make_owner,
            count=settings.partitions,
            lease_s=settings.lease_ttl_s,
        )
        try:
            await partitions.run(stop, STOP_GRACE_S)
        finally:
            executor.shutdown(wait=False)
            await arrivals.aclose()
            await blocking.aclose()

    def _counters(self, batch: Batch) -> dict[str, int]:
        door = asdict(self._door.counters) if self._door is not None else {}
        return {
            "pid": os.getpid(),
            "script_calls": batch.calls,
            "script_round_trips": batch.round_trips,
            "dead_letters": self._watch.dead_letters if self._watch is not None else 0,
            **{f"callbacks_{what}": count for what, count in door.items()},
        }

    def _readiness(
        self, client: Redis, provisioner: Provisioner
    ) -> Callable[[], Coroutine[Any, Any, Mapping[str, Check]]]:
        async def readiness() -> Mapping[str, Check]:
            try:
                await ping(client)
                watch = self._watch
                redis = Check(
                    ok=watch is not None,
                    detail="opening" if watch is None else "; ".join(watch.verdict.notes),
                )
            except StoreUnavailable as error:
                redis = Check(ok=False, detail=str(error))
            return {
                "redis": redis,
                "instance": Check(ok=provisioner.ready.is_set(), detail=provisioner.state),
                # Texts arrive and replies leave without it: no reason to take no traffic.
                "backfill": Check(ok=True, detail=self._backfill.state if self._backfill else ""),
                "handlers": Check(ok=True, detail=f"{len(self._router)} routes"),
            }

        return readiness


async def _look(client: Redis, settings: Settings) -> Verdict:
    return await look(
        client,
        settings.durability,
        replicas=settings.replicas,
        replica_timeout_s=settings.replica_timeout_s,
    )


def _serve_many(
    settings: Settings,
    role: Role,
    redis_url: str,
    public: socket.socket | None,
    internal: socket.socket,
) -> int:
    listeners = [listener for listener in (public, internal) if listener is not None]
    arguments = ["serve", "--role", role, "--processes", "1", "--stop-with-stdin"]
    if public is not None:
        arguments += ["--fd", str(public.fileno())]
    arguments += ["--internal-fd", str(internal.fileno())]
    # REDIS_URL_FILE would be stronger than the variable that points at the embedded Redis.
    environ = {key: value for key, value in os.environ.items() if key != "REDIS_URL_FILE"}
    return Supervisor(
        settings.processes,
        arguments,
        environ | {"REDIS_URL": redis_url},
        listeners,
        stop_s=STOP_GRACE_S + 2,
    ).run()


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


def _inherit(fd: int) -> socket.socket:
    listener = socket.socket(fileno=fd, proto=socket.IPPROTO_TCP)
    listener.setblocking(False)
    return listener


def _addresses(public: socket.socket | None, internal: socket.socket) -> dict[str, str]:
    names = {"public": public, "internal": internal}
    return {
        name: "{}:{}".format(*listener.getsockname()[:2])
        for name, listener in names.items()
        if listener is not None
    }


def _wanted_instance(settings: Settings) -> Wanted:
    path = _chosen_file(settings, "instance")
    template = _template(path, INSTANCE_NAMES)
    key = settings.connector_element
    callback_url = settings.public_url + CALLBACK_PATH
    if ELEMENTS[key].calls_directly:
        callback_url = with_overrides(
            callback_url, settings.callback_retries, settings.callback_retry_policy
        )
    values = {
        "TWILIO_ACCOUNT_SID": settings.twilio_account_sid,
        "TWILIO_AUTH_TOKEN": settings.twilio_auth_token.get_secret_value(),
        "TWILIO_SENDER": settings.twilio_sender,
        "CALLBACK_URL": callback_url,
        "EVENT_SIGNATURE_KEY": settings.event_key,
        "INSTANCE_NAME": settings.instance_name,
        "INSTANCE_TAG": settings.instance_tag,
    }
    wanted = Wanted.build(template, values, str(path))
    written = wanted.body["element"]["key"]
    if written in ELEMENTS and written != key:
        raise SettingsError(
            [f"{path}: element.key is {written}, but CONNECTOR_ELEMENT is {key}; make them agree"]
        )
    return wanted


def _message_template(settings: Settings) -> Template:
    return _template(_chosen_file(settings, "message"), MESSAGE_NAMES)


def _chosen_file(settings: Settings, stem: str) -> Path:
    """Choose the JSON file for the connector set: "twilio" has `<stem>.json`.

    Any other has `<stem>.<element>.json`, in CONFIG_DIR or as packaged; a `<stem>.json` that
    somebody has edited wins over the packaged one.
    """
    general = settings.config_dir / f"{stem}.json"
    if settings.connector_element == "twilio":
        return general
    own = settings.config_dir / f"{stem}.{settings.connector_element}.json"
    packaged = packaged_config()
    if own.is_file() and not _same(own, packaged / own.name):
        return own
    if general.is_file() and not _same(general, packaged / general.name):
        return general
    return packaged / own.name


def _same(one: Path, other: Path) -> bool:
    return other.is_file() and one.read_bytes() == other.read_bytes()


def _template(path: Path, names: frozenset[str]) -> Template:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise SettingsError([f"{path}: can't be read: {error}"]) from error
    return Template(text, place=str(path), names=names)


def _schedule(settings: Settings, attempts: int) -> Schedule:
    return Schedule(
        first_ms=int(settings.retry_first_s * 1000),
        longest_ms=int(settings.retry_max_s * 1000),
        attempts=attempts,
    )


def _worker_id() -> str:
    return f"{socket.gethostname()}-{os.getpid()}-{token_hex(4)}"


def _stop_event(*, stop_with_stdin: bool) -> asyncio.Event:
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
