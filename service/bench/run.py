"""Runs the load against one deployment and gathers what it leaves behind."""

from __future__ import annotations

import asyncio
import gc
import json
import random
import secrets
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from service.bench import usage
from service.bench.figures import Arrival, Counted, Marker, Run, Sent, Usage
from service.bench.load import OPEN_LOOP_CONNECTIONS, Load, Progress
from service.bench.plan import Target, make_plan, poisson
from service.errors import ParleyError
from service.http1 import Client, NoAnswer, NotSent

WARM_UP = 100
"""Messages before the measured ones: scripts are loaded, connections opened, code is warm."""

PATIENCE_S = 15.0
"""Longest wait for the next reply before the missing ones count as lost: longer than a lease."""

POLL_S = 0.05
PAGE = 5_000
CONTROL_TIMEOUT_S = 30.0

SETTLE_S = 1.0
"""Between readiness and the look at idle memory: leases are taken, the collector has run."""

LATECOMERS_S = 0.5
"""Wait, beside twice the connector's delay, for replies that should not come."""

FLAT_OUT_LIMIT = 8_000
"""Callbacks a second that are signed for a flat-out run that ends by time."""

MESSAGES_LIMIT = 200_000
"""Replies the sandbox remembers."""

COUNTED_COMMANDS = ("evalsha", "eval", "xread")
"""What the service's clients send for a message. Scripts run none of these themselves."""

LOCAL_HOSTS = frozenset({"127.0.0.1", "::1", "localhost"})


class BenchFailed(ParleyError):
    """Nothing could be measured; the text says why."""


@dataclass(frozen=True, slots=True)
class Place:
    """A deployment, and where its parts can be looked at.

    target: whom callbacks are for. address: where they are sent, the signed URL or another way
    there. connector_log: the sandbox's address. internal: the internal listener's address.
    service, sandbox: process ids. redis_socket: of the deployment's own Redis. processes: how
    many serve; None where that is not known. delay_ms: what the connector waits, None to leave it.
    """

    target: Target
    address: str
    connector_log: str | None = None
    internal: str | None = None
    service: int | None = None
    sandbox: int | None = None
    redis_socket: Path | None = None
    processes: int | None = None
    delay_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """The load.

    rate: callbacks a second, 0 for flat out. messages: sent for the first time; None where
    `seconds` ends the run. connections: most at once, flat out. duplicates, forged: as a share of
    the messages, on top of them.
    """

    rate: float
    messages: int | None
    seconds: float
    conversations: int
    connections: int
    duplicates: float
    forged: float

    @property
    def planned(self) -> int:
        """Messages to sign."""
        if self.messages is not None:
            return self.messages
        callbacks = self.seconds * (self.rate or FLAT_OUT_LIMIT)
        return min(MESSAGES_LIMIT, max(1, round(callbacks / (1 + self.duplicates + self.forged))))


async def measure(place: Place, wanted: Wanted, progress: Progress) -> Run:
    """Send the load and return what was seen.

    progress: called for each callback of the measured part.
    Raises BenchFailed when the deployment can't be reached, refuses the first callback, or its
        replies can't be found.
    """
    dice = random.Random()  # noqa: S311  (the load's mix, no secret)
    run = secrets.token_hex(6)
    plan = make_plan(
        place.target,
        run,
        messages=wanted.planned,
        conversations=wanted.conversations,
        duplicates=wanted.duplicates,
        forged=wanted.forged,
        dice=dice,
    )
    moments = poisson(len(plan), wanted.rate, dice) if wanted.rate else ()
    connections = OPEN_LOOP_CONNECTIONS if wanted.rate else wanted.connections
    active = False

    def count(sent: Sent) -> None:
        if active:
            progress(sent)

    watch = Watch(place)
    load = Load(place.address, connections=connections, progress=count)
    log = ReplyLog(place.connector_log) if place.connector_log else None
    try:
        await watch.begin()
        if log is not None:
            await log.begin(place.delay_ms)
        await _warm_up(place, load, log, wanted)
        before = await watch.look()
        active = True
        gc.collect()
        gc.freeze()
        gc.disable()
        began = time.monotonic()
        if wanted.rate:
            sent = await load.at_rate(plan, moments)
        else:
            until = None if wanted.messages is not None else began + wanted.seconds
            sent = await load.flat_out(plan, until)
        arrivals = None
        if log is not None:
            accepted = _accepted(sent)
            await log.wait_for(run, accepted)
        ended = time.monotonic()
        after = await watch.look()
        if log is not None:
            await asyncio.sleep(LATECOMERS_S + 2 * (place.delay_ms or 0) / 1000)
            arrivals = await log.arrivals(run)
        notes = list(watch.notes)
        if log is None:
            notes.append("replies were not looked at; --connector-log names the sandbox to ask")
        return Run(
            rate=wanted.rate,
            sent=sent,
            arrivals=arrivals,
            connector_here=_is_here(place.connector_log),
            window_s=ended - began,
            usage=watch.used(before, after),
            counted=watch.counted(before, after),
            notes=notes,
        )
    finally:
        gc.enable()
        gc.unfreeze()
        await load.aclose()
        await watch.aclose()
        if log is not None:
            await log.aclose()


class Control:
    """Asks one of our own listeners for JSON."""

    def __init__(self, address: str, name: str) -> None:
        self._client = Client(address, connections=1, connect_timeout_s=CONTROL_TIMEOUT_S)
        self._address = address
        self._name = name

    async def get(self, path: str) -> Any:
        """GET; another process may answer each time. Raises BenchFailed."""
        return await self._ask("GET", path, {"Connection": "close"}, b"")

    async def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """POST JSON. Raises BenchFailed."""
        headers = {"Content-Type": "application/json"}
        return await self._ask("POST", path, headers, json.dumps(body).encode())

    async def aclose(self) -> None:
        """Close the connection."""
        await self._client.aclose()

    async def _ask(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Any:
        where = f"{self._name}, {self._address}{path}"
        try:
            answer = await self._client.request(
                method, path, headers, body, timeout_s=CONTROL_TIMEOUT_S
            )
        except (NotSent, NoAnswer) as error:
            raise BenchFailed(f"{where}: {error}") from error
        if answer.status != 200:
            raise BenchFailed(f"{where}: answered {answer.status}")
        try:
            return json.loads(answer.body)
        except ValueError as error:
            raise BenchFailed(f"{where}: the answer is no JSON") from error


class ReplyLog:
    """The replies that reached the connector: the sandbox's /sandbox/replies."""

    def __init__(self, address: str) -> None:
        self._control = Control(address.rstrip("/"), "the connector's log")
        self._seen = 0

    async def begin(self, delay_ms: float | None) -> None:
        """Forget what is there already; delay_ms: make every answer wait, None to leave it."""
        if delay_ms is not None:
            await self._control.post("/sandbox/trouble", {"count": -1, "latency_ms": delay_ms})
        self._seen = await self._received()

    async def wait_for(self, run: str, accepted: set[int]) -> bool:
        """Wait until every accepted message has its reply, or nothing comes any more.

        Counts them first: reading them all would cost the sandbox time it is measured in.
        Returns whether all have come.
        """
        missing, known = len(accepted), self._seen
        last, changed = known, time.monotonic()
        while True:
            received = await self._received()
            now = time.monotonic()
            if received != last:
                last, changed = received, now
            stalled = now - changed > PATIENCE_S
            if received - known >= missing or stalled:
                found = {each.marker.number for each in await self.arrivals(run)}
                missing, known = len(accepted - found), received
                if not missing or stalled:
                    return not missing
            await asyncio.sleep(POLL_S)

    async def arrivals(self, run: str) -> list[Arrival]:
        """Return the run's replies, in order of arrival."""
        found, after = [], self._seen
        while True:
            page = await self._control.get(f"/sandbox/replies?after={after}&count={PAGE}")
            for reply in page["replies"]:
                after = reply["arrival"]
                marker = Marker.find(reply["body"])
                if marker is not None and marker.run == run:
                    found.append(Arrival(marker, reply["moment_s"]))
            if not page["replies"]:
                return found

    async def aclose(self) -> None:
        """Close the connection."""
        await self._control.aclose()

    async def _received(self) -> int:
        return int((await self._control.get("/sandbox/replies"))["received"])


@dataclass(frozen=True, slots=True)
class Look:
    """All counters at one moment. processes: by role. own_s: CPU of the load generator."""

    processes: Mapping[str, Sequence[usage.Process]]
    own_s: float
    counters: Mapping[int, Mapping[str, int]]
    commands: Mapping[str, int] | None


class Watch:
    """Looks at processes and counters of a deployment, as far as they can be seen."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._internal = (
            Control(place.internal.rstrip("/"), "the internal listener") if place.internal else None
        )
        self._idle: dict[int, tuple[float, float]] = {}
        self.notes: list[str] = []

    async def begin(self) -> None:
        """Look at idle memory. Raises BenchFailed when the internal listener does not answer."""
        if self._place.service is None:
            self.notes.append(
                "CPU and memory: only of a deployment that bench starts itself (without --url)"
            )
        elif not usage.available():
            self.notes.append("CPU and memory: not measured, this system has no /proc")
        else:
            await asyncio.sleep(SETTLE_S)
            for processes in self._roles().values():
                for each in processes:
                    memory = usage.memory_mb(each.pid)
                    if memory is not None:
                        self._idle[each.pid] = memory
        if self._internal is None:
            self.notes.append("Redis round trips: not counted; --internal names the listener")

    async def look(self) -> Look:
        """Read every counter."""
        socket = self._place.redis_socket
        commands = usage.command_counts(socket) if socket else None
        return Look(self._roles(), time.process_time(), await self._counters(), commands)

    def used(self, before: Look, after: Look) -> list[Usage]:
        """Return what each role used between two looks, the load generator last."""
        found = []
        for role, processes in after.processes.items():
            earlier = {each.pid: each.cpu_s for each in before.processes.get(role, ())}
            cpu_s = sum(each.cpu_s - earlier.get(each.pid, 0.0) for each in processes)
            idle = [self._idle[each.pid] for each in processes if each.pid in self._idle]
            rss, pss = (sum(r for r, _ in idle), sum(p for _, p in idle)) if idle else (None, None)
            found.append(Usage(role, len(processes), cpu_s, rss, pss))
        found.append(Usage("load generator", 1, after.own_s - before.own_s))
        return found

    def counted(self, before: Look, after: Look) -> Counted | None:
        """Return the round trips between two looks; None when a process could not be asked."""
        if not after.counters or before.counters.keys() != after.counters.keys():
            return None

        def difference(name: str) -> int:
            return sum(
                after.counters[pid][name] - before.counters[pid][name] for pid in after.counters
            )

        commands = {}
        if before.commands is not None and after.commands is not None:
            commands = {
                name: after.commands.get(name, 0) - before.commands.get(name, 0)
                for name in COUNTED_COMMANDS
            }
        reads = commands.get("xread")
        return Counted(
            difference("script_calls"), difference("script_round_trips"), reads, commands
        )

    async def aclose(self) -> None:
        """Close the connection."""
        if self._internal is not None:
            await self._internal.aclose()

    def _roles(self) -> dict[str, list[usage.Process]]:
        roles: dict[str, list[usage.Process]] = {}
        if self._place.service is not None:
            family = usage.family(self._place.service)
            servers = [each for each in family if "redis-server" in each.command.split(" ")[0]]
            served = [each for each in family if each not in servers]
            if len(served) > 1:
                roles["parley serve"] = [e for e in served if e.pid != self._place.service]
                roles["supervisor"] = [e for e in served if e.pid == self._place.service]
            elif served:
                roles["parley serve"] = served
            if servers:
                roles["Redis"] = servers
        if self._place.sandbox is not None and (family := usage.family(self._place.sandbox)):
            roles["connector (sandbox)"] = family
        return roles

    async def _counters(self) -> dict[int, Mapping[str, int]]:
        """Ask until every process has answered: they share the listener."""
        found: dict[int, Mapping[str, int]] = {}
        if self._internal is None:
            return found
        wanted = self._place.processes or 1
        for _ in range(100 * wanted):
            counters = await self._internal.get("/counters")
            # The later answer of a process counts: it is the nearer to the others'.
            found[counters["pid"]] = counters
            if len(found) == wanted:
                return found
        self.notes.append("Redis round trips: not counted, not every process answered")
        return {}


async def _warm_up(place: Place, load: Load, log: ReplyLog | None, wanted: Wanted) -> None:
    """Send one callback and see what comes of it; then some more. Raises BenchFailed."""
    run = secrets.token_hex(6)
    plan = make_plan(
        place.target,
        run,
        messages=WARM_UP,
        conversations=wanted.conversations,
        duplicates=0,
        forged=0,
        dice=random.Random(),  # noqa: S311
    )
    first = await load.send(plan[0], time.monotonic())
    if first.status != 200:
        raise BenchFailed(_refusal(first.status, place))
    # The connections a fixed rate needs are far fewer than it may have.
    rest = await load.flat_out(plan[1:], None)
    statuses = Counter(each.status for each in rest)
    if statuses.keys() - {200, 503}:
        raise BenchFailed(f"{place.address}: the warm-up was answered {dict(statuses)}")
    if log is not None and not await log.wait_for(run, _accepted([first, *rest])):
        raise BenchFailed(
            f"{place.connector_log}: replies to the warm-up are missing after {PATIENCE_S:.0f} s. "
            'Is this the connector of the deployment, and does a handler answer "echo ..."?'
        )


def _refusal(status: int, place: Place) -> str:
    where = place.address
    if not status:
        return f"{where}: nothing answers there; is the deployment running?"
    if status == 403:
        return (
            f"{where}: a signed callback was refused (403): --token or --account is not the "
            f"deployment's, or its PUBLIC_URL does not make {place.target.url}"
        )
    if status == 503:
        return f"{where}: the deployment takes nothing at the moment (503): look at its /readyz"
    return f"{where}: a signed callback was answered {status}; is this Parley's callback URL?"


def _accepted(sent: Sequence[Sent]) -> set[int]:
    return {each.marker.number for each in sent if each.status == 200 and each.kind != "forged"}


def _is_here(address: str | None) -> bool:
    return address is not None and urlsplit(address).hostname in LOCAL_HOSTS
