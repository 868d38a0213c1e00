"""A lock in Redis for what one process of a deployment does at a time: redis-py's, kept alive.

Held for as long as its holder works, and no longer: the holder renews it, one that was killed lets
it run out. Whoever may have lost it is stopped, as another process may be doing the same by then.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from redis.asyncio.lock import Lock
from redis.exceptions import LockNotOwnedError, RedisError

from service.errors import LockLost
from service.store.failures import translated
from service.store.scripts import TAKE_LOCK, run_alone

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


class _Taken(Lock):
    """redis-py's lock, which can be had of a full Redis as well."""

    async def do_acquire(self, token: str | bytes) -> bool:
        ttl_ms = int((self.timeout or LOCK_TTL_S) * 1000)
        args = (_as_text(token), ttl_ms, ttl_ms + SLACK_MS)
        return bool(await run_alone(self.redis, TAKE_LOCK, (_as_text(self.name),), args))


@asynccontextmanager
async def locked(client: Redis, key: str, *, ttl_s: float = LOCK_TTL_S) -> AsyncIterator[None]:
    """Hold a lock; waits for it.

    What is done under it is cancelled once the lock has gone to somebody else, or may have run out
    by our own clock because Redis could not be reached.
    Raises LockLost then, and StoreUnavailable.
    """
    lock = client.lock(key, timeout=ttl_s, sleep=LOCK_POLL_S, lock_class=_Taken, thread_local=False)
    with translated():
        await lock.acquire()
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
    with translated():
        try:
            await lock.release()
        except LockNotOwnedError as error:
            raise LockLost(f"{_lost(key)}; what was done under it may have been done twice") from (
                error
            )


def _as_text(value: str | bytes | memoryview) -> str:
    return value if isinstance(value, str) else bytes(value).decode()


def _lost(key: str) -> str:
    return f"the lock {key} was lost, and another process may have it"


async def _give_up(lock: Lock) -> None:
    """Release it, unless that fails: what is raised already says more."""
    with suppress(RedisError, OSError):
        await lock.release()


async def _renew(lock: Lock, held: asyncio.Timeout, ttl_s: float) -> None:
    """Renew the lock until cancelled; `held` expires when it is, or may be, ours no longer."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None  # noqa: S101  (it runs as one)
    while True:
        pause_s = ttl_s / RENEWALS
        # At once for the first time: how long ago Redis has given it to us is not known.
        asked = loop.time()
        until: float | None = asked + ttl_s
        try:
            await lock.reacquire()
        except LockNotOwnedError:
            until = asked
        except (RedisError, OSError):
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
