"""Runs the load against one deployment and gathers what it leaves behind."""

from __future__ import annotations

import asyncio
import gc
import random
import secrets
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from service.lab.bench.control import BenchFailed
from service.lab.bench.figures import Run, Sent
from service.lab.bench.load import OPEN_LOOP_CONNECTIONS, Load, Progress
from service.lab.bench.plan import Place, make_plan, poisson
from service.lab.bench.reply_log import PATIENCE_S, ReplyLog
from service.lab.bench.watch import Watch

WARM_UP = 100
"""Messages before the measured ones: scripts are loaded, connections opened, code is warm."""


LATECOMERS_S = 0.5
"""Wait, beside twice the connector's delay, for replies that should not come."""

FLAT_OUT_LIMIT = 8_000
"""Callbacks a second that are signed for a flat-out run that ends by time."""

MESSAGES_LIMIT = 200_000
"""Replies the sandbox remembers."""

LOCAL_HOSTS = frozenset({"127.0.0.1", "::1", "localhost"})


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
