"""What operators do to a deployment's data from the command line: dead letters, opt-outs.

Functions of plain values, called by the commands; each opens the store for as long as it runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from service.errors import StoreFull
from service.settings.table import Settings
from service.store.dead_letters import DeadLetter, DeadLetters, Filter
from service.store.opt_outs import OptOut, list_opt_outs
from service.wiring.commands import open_store

Result = TypeVar("Result")
Progress = Callable[[int], None]
"""Called with the number of dead letters done so far."""


@dataclass(frozen=True, slots=True)
class Done:
    """What became of the dead letters asked for.

    done: how many were replayed or dropped. missing: ids there are none of (any more).
    full: ids that had to stay, as their inbox is full.
    """

    done: int
    missing: tuple[str, ...]
    full: tuple[str, ...]


def find(
    settings: Settings,
    *,
    number: str | None = None,
    route: str | None = None,
    error: str | None = None,
    before: datetime | None = None,
) -> list[DeadLetter]:
    """List dead letters, each conversation in order; see `store.dead_letters.Filter`."""
    wanted = Filter(number, route, error, before)

    async def run(letters: DeadLetters) -> list[DeadLetter]:
        return [letter async for letter in letters.find(wanted)]

    return _with_dead_letters(settings, run)


def get(settings: Settings, id_: str) -> DeadLetter | None:
    """Return one dead letter, None if there is none of this id."""
    return _with_dead_letters(settings, lambda letters: letters.get(id_))


def replay(settings: Settings, ids: Sequence[str], progress: Progress) -> Done:
    """Put dead letters back into their inboxes, in the order given."""
    return _with_dead_letters(settings, lambda letters: _each(letters.replay, ids, progress))


def drop(settings: Settings, ids: Sequence[str], progress: Progress) -> Done:
    """Delete dead letters for good."""
    return _with_dead_letters(settings, lambda letters: _each(letters.drop, ids, progress))


def opt_outs(settings: Settings) -> list[OptOut]:
    """List who has opted out of which of our numbers, the oldest first."""

    async def run() -> list[OptOut]:
        async with open_store(settings) as (client, _):
            return await list_opt_outs(client, settings.partitions)

    return asyncio.run(run())


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
) -> Done:
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
    return Done(done, tuple(missing), tuple(full))


def _with_dead_letters(
    settings: Settings, run: Callable[[DeadLetters], Awaitable[Result]]
) -> Result:
    async def opened() -> Result:
        async with _dead_letters(settings) as letters:
            return await run(letters)

    return asyncio.run(opened())


@asynccontextmanager
async def _dead_letters(settings: Settings) -> AsyncIterator[DeadLetters]:
    async with open_store(settings) as (client, batch):
        yield DeadLetters(
            client, batch, partitions=settings.partitions, inbox_limit=settings.inbox_limit
        )
