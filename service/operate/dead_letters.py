"""Dead letters: find, show, replay and drop them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from service.errors import StoreFull
from service.operate.deployment import Deployment, open_store
from service.store.dead_letters import DeadLetter, DeadLetters, Filter

Progress = Callable[[int], None]
"""Called with the number of dead letters done so far."""


@dataclass(frozen=True, slots=True)
class BulkResult:
    """What became of the dead letters asked for.

    done: how many were replayed or dropped. missing: ids there are none of (any more).
    full: ids that had to stay, as their inbox is full.
    """

    done: int
    missing: tuple[str, ...]
    full: tuple[str, ...]


async def find(
    deployment: Deployment,
    *,
    number: str | None = None,
    route: str | None = None,
    error: str | None = None,
    before: datetime | None = None,
) -> list[DeadLetter]:
    """List dead letters, each conversation in order; see `store.dead_letters.Filter`."""
    async with _opened(deployment) as letters:
        return [letter async for letter in letters.find(Filter(number, route, error, before))]


async def get(deployment: Deployment, id_: str) -> DeadLetter | None:
    """Return one dead letter, None if there is none of this id."""
    async with _opened(deployment) as letters:
        return await letters.get(id_)


async def replay(deployment: Deployment, ids: Sequence[str], progress: Progress) -> BulkResult:
    """Put dead letters back into their inboxes, in the order given."""
    async with _opened(deployment) as letters:
        return await _each(letters.replay, ids, progress)


async def drop(deployment: Deployment, ids: Sequence[str], progress: Progress) -> BulkResult:
    """Delete dead letters for good."""
    async with _opened(deployment) as letters:
        return await _each(letters.drop, ids, progress)


def as_json(letter: DeadLetter) -> dict[str, Any]:
    """A dead letter for scripts."""
    shown: dict[str, Any] = {
        "id": letter.id,
        "kind": letter.kind,
        "at": letter.at.isoformat(),
        "tries": letter.tries,
        "route": letter.route,
        "error": letter.error,
    }
    if letter.traceback:
        shown["traceback"] = letter.traceback
    if letter.code is not None:
        shown |= {"code": letter.code, "means": letter.means, "advice": letter.advice}
    if letter.value is not None:
        ours, theirs = letter.value.conversation
        shown |= {"ours": ours, "theirs": theirs, "sid": _sid(letter), "body": _body(letter)}
    return shown


def say_error(letter: DeadLetter) -> str:
    """A dead letter's error, preceded by Twilio's code and what to do where that is known."""
    if not letter.means:
        return letter.error
    return f"{letter.code}, {letter.means}: {letter.advice} ({letter.error})"


def _sid(letter: DeadLetter) -> str:
    return str(getattr(letter.value, "sid", None) or getattr(letter.value, "reply_to", ""))


def _body(letter: DeadLetter) -> str:
    reply = getattr(letter.value, "reply", None)
    return str(reply.body if reply is not None else getattr(letter.value, "body", ""))


async def _each(
    act: Callable[[str], Awaitable[bool]], ids: Iterable[str], progress: Progress
) -> BulkResult:
    done, missing, full = 0, [], []
    for place, id_ in enumerate(ids, start=1):
        try:
            if await act(id_):
                done += 1
            else:
                missing.append(id_)
        except StoreFull:
            full.append(id_)
        progress(place)
    return BulkResult(done, tuple(missing), tuple(full))


@asynccontextmanager
async def _opened(deployment: Deployment) -> AsyncIterator[DeadLetters]:
    settings = deployment.settings
    async with open_store(deployment) as (client, batch):
        yield DeadLetters(
            client, batch, partitions=settings.partitions, inbox_limit=settings.inbox_limit
        )
