"""The audit trail: who did what, by the console and by commands.

Nothing in it is a text, a secret or a whole phone number.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from service.core.masking import mask_number
from service.core.plain_text import escape
from service.errors import ParleyError, UsageError
from service.store import audit
from service.store.audit import Act, Via
from service.store.client import Redis

__all__ = ["Act", "Noting", "Via", "note", "note_refusal", "noted", "trail"]

LONGEST_FIELD = 300
"""Characters of each field: a hundred thousand acts are to take tens of megabytes."""

NUMBER = re.compile(r"\+[0-9]{7,15}")


async def note(
    redis: Redis, *, who: str, via: Via, what: str, about: str = "", outcome: str = "done"
) -> None:
    """Write an act into the trail.

    who: "operator by password, session 1f2e3d4c", or "user@host" of a command. what: the command
    that does it, without `parley`, as "dead replay"; or "sign in", "sign out", "sign-in refused".
    about: ids, an instance; phone numbers in it are masked. Raises StoreUnavailable.
    """
    await audit.write(redis, _fields(who, via, what, about, outcome))


async def note_refusal(redis: Redis, *, who: str, about: str, outcome: str, address: str) -> bool:
    """Write a refused sign-in, at most one a minute of an address; tell whether it was written.

    Raises StoreUnavailable.
    """
    fields = _fields(who, "console", "sign-in refused", about, outcome)
    return await audit.write_refusal(redis, fields, address)


async def trail(
    redis: Redis, *, before: str | None = None, count: int = 50, contains: str = ""
) -> list[Act]:
    """Return acts, newest first.

    before: the id of the oldest one seen so far; what is no id finds nothing. contains: only acts
    with these words in them, without regard to case. Raises StoreUnavailable.
    """
    return await audit.read(redis, before=before, count=count, contains=contains)


@dataclass(slots=True)
class Noting:
    """An act under way; what is in here when it ends is noted."""

    about: str
    outcome: str = "done"


@asynccontextmanager
async def noted(
    redis: Redis, *, who: str, via: Via, what: str, about: str = ""
) -> AsyncIterator[Noting]:
    """Note what is done inside when it has ended, however it does. Raises StoreUnavailable.

    What failed is noted by the class of its error, whose text may hold what somebody wrote. What
    was refused for its words (UsageError) is not: nothing was done.
    """
    act = Noting(about)
    try:
        yield act
    except UsageError:
        raise
    except BaseException as error:
        failed = isinstance(error, Exception)  # A cancellation is none.
        act.outcome = f"failed: {type(error).__name__}" if failed else "broken off"
        try:
            await note(redis, who=who, via=via, what=what, about=act.about, outcome=act.outcome)
        except ParleyError as unnoted:
            # What failed says more than that nobody noted it.
            error.add_note(f"and this could not be noted in the audit trail: {unnoted}")
        raise
    await note(redis, who=who, via=via, what=what, about=act.about, outcome=act.outcome)


def _fields(who: str, via: Via, what: str, about: str, outcome: str) -> dict[str, str]:
    plain = {"who": who, "via": via, "what": what, "about": about, "outcome": outcome}
    return {name: _shown(text) for name, text in plain.items()}


def _shown(text: str) -> str:
    masked = NUMBER.sub(lambda found: mask_number(found[0]), text)
    return escape(masked)[:LONGEST_FIELD]
