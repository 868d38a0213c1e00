"""The audit trail: who did what, newest last; written, read and never changed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from service.core.proofs import digest_of
from service.store import keys
from service.store.failures import translated
from service.store.scripts import NOTE, NOTE_REFUSAL, run_alone
from service.store.stored import moment
from service.store.tries import network_of

if TYPE_CHECKING:
    from service.store.client import Redis

Via = Literal["console", "command"]

MOST_ACTS = 100_000
"""About 20 MB of Redis; years of a deployment that is left alone, months of a busy one."""

REFUSALS_EVERY_MS = 60_000
MOST_REFUSALS = 6
"""Refused sign-ins that are noted in each minute, one of a network: a flood of them would take
eleven days to push what people did out of the trail, and is seen before."""

READ_PAGE = 500

ID = re.compile(r"[0-9]{1,15}-[0-9]{1,15}")


@dataclass(frozen=True, slots=True)
class Act:
    """What somebody did.

    id: its place in the trail. at: by Redis's clock, aware. who: a session's, or "user@host" of a
    command. what: the command, or what the console's button does. about: on what. outcome: "done",
    or how it ended.
    """

    id: str
    at: datetime
    who: str
    via: Via
    what: str
    about: str
    outcome: str

    def holds(self, words: str) -> bool:
        """Tell whether these words are in it, without regard to case."""
        texts = (self.who, self.via, self.what, self.about, self.outcome)
        return any(words.casefold() in text.casefold() for text in texts)


async def write(client: Redis, fields: Mapping[str, str]) -> None:
    """Write one act. fields: who, via, what, about, outcome. Raises StoreUnavailable."""
    await run_alone(client, NOTE, (keys.TRAIL,), (MOST_ACTS, *_words(fields)))


async def write_refusal(client: Redis, fields: Mapping[str, str], address: str) -> bool:
    """Write a refused sign-in, unless one of its network or too many were written this minute.

    Returns whether it was written. Raises StoreUnavailable.
    """
    places = (keys.TRAIL, keys.REFUSALS, keys.refusal_of(digest_of(network_of(address))))
    args: list[str | int] = [MOST_ACTS, REFUSALS_EVERY_MS, MOST_REFUSALS, *_words(fields)]
    return bool(await run_alone(client, NOTE_REFUSAL, places, args))


async def read(client: Redis, *, before: str | None, count: int, contains: str) -> list[Act]:
    """Return acts, newest first. before: an act's id; what is none finds nothing.

    Raises StoreUnavailable.
    """
    if before is not None and not ID.fullmatch(before):
        return []
    found: list[Act] = []
    last = "+" if before is None else f"({before}"
    while len(found) < count:
        with translated():
            page = await client.xrevrange(keys.TRAIL, last, "-", READ_PAGE)
        acts = [_read(raw_id.decode(), fields) for raw_id, fields in page]
        found += [act for act in acts if act.holds(contains)]
        if len(page) < READ_PAGE:
            break
        last = f"({acts[-1].id}"
    return found[:count]


def _read(id_: str, fields: Mapping[bytes, bytes]) -> Act:
    def text(name: bytes) -> str:
        return fields.get(name, b"").decode(errors="replace")

    via: Via = "command" if fields.get(b"via") == b"command" else "console"
    at = moment(id_.partition("-")[0].encode())
    return Act(id_, at, text(b"who"), via, text(b"what"), text(b"about"), text(b"outcome"))


def _words(fields: Mapping[str, str]) -> list[str]:
    return [word for pair in fields.items() for word in pair]
