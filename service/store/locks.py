"""A lock in Redis for what one process of a deployment does at a time, kept alive.

Held for as long as its holder works, and no longer: the holder renews it, one that was killed lets
it run out. Whoever may have lost it is stopped, as another process may be doing the same by then.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from service.errors import LockLost, StoreError
from service.store.scripts import KEEP_LOCK, TAKE_LOCK, run_alone

if TYPE_CHECKING:
    from service.store.client import Redis

LOCK_TTL_S = 30.0
"""How long a lock outlives its last renewal: for so long one that was killed blocks the others."""

RENEWALS = 3
"""Renewals in that time, so that two can fail before it runs out."""

LOCK_POLL_S = 0.2
"""How often others ask for it. Its holder may be another machine, and may have died."""

SLACK_MS = 60_000
"""How far Redis's clock may be put back without costing a living holder its lock."""


@asynccontextmanager
async def locked(client: Redis, key: str, *, ttl_s: float = LOCK_TTL_S) -> AsyncIterator[None]:
    """Hold a lock; waits for it.

    What is done under it is cancelled once the lock has gone to somebody else, or may have run out
    by our own clock because Redis could not be reached.
    Raises LockLost then, and StoreUnavailable.
    """
    lock = _Lock(client, key, ttl_s)
    while not await lock.take():
        await asyncio.sleep(LOCK_POLL_S)
    try:
        async with asyncio.timeout(ttl_s) as held:
            renewing = asyncio.create_task(_renew(lock, held, ttl_s))
            try:
                yield
            finally:
                renewing.cancel()
    except TimeoutError as error:
        if held.expired():
            raise LockLost(f"{_lost(key)}; what was done under it was broken off") from error
        await _give_up(lock)
        raise
    except BaseException:
        await _give_up(lock)
        raise
    if not await lock.release():
        raise LockLost(f"{_lost(key)}; what was done under it may have been done twice")


class _Lock:
    """A lock as one holder has it."""

    def __init__(self, client: Redis, key: str, ttl_s: float) -> None:
        self._client = client
        self._keys = (key,)
        self._token = secrets.token_hex(16)
        self._ttl_ms = int(ttl_s * 1000)

    async def take(self) -> bool:
        args = (self._token, self._ttl_ms, self._ttl_ms + SLACK_MS)
        return bool(await run_alone(self._client, TAKE_LOCK, self._keys, args))

    async def keep(self) -> bool:
        """Renew it; False when it is not ours any more, as for `release`."""
        args = (self._token, self._ttl_ms)
        return bool(await run_alone(self._client, KEEP_LOCK, self._keys, args))

    async def release(self) -> bool:
        return bool(await run_alone(self._client, KEEP_LOCK, self._keys, (self._token, 0)))


def _lost(key: str) -> str:
    return f"the lock {key} was lost, and another process may have it"


async def _give_up(lock: _Lock) -> None:
    """Release it, unless that fails: what is raised already says more."""
    with suppress(StoreError):
        await lock.release()


async def _renew(lock: _Lock, held: asyncio.Timeout, ttl_s: float) -> None:
    """Renew the lock until cancelled; `held` expires when it is, or may be, ours no longer."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None  # noqa: S101  (it runs as one)
    while True:
        pause_s = ttl_s / RENEWALS
        # At once for the first time: how long ago Redis has given it to us is not known.
        asked = loop.time()
        until: float | None = asked + ttl_s
        try:
            if not await lock.keep():
                until = asked
        except StoreError:
            # Redis may be back before the lock has run out.
            until, pause_s = None, min(LOCK_POLL_S, pause_s)
        # Asked for, as asyncio.wait_for of Python 3.11, within redis-py, may swallow it.
        if task.cancelling() or held.expired():
            return
        if until is not None:
            held.reschedule(until)
        if until == asked:
            return
        await asyncio.sleep(pause_s)
