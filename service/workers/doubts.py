"""Whether a reply in doubt went out, by the connector's message log. What follows is the sender's.

The log has the connector's clock, which may be hours from ours: all that is compared with it is
turned into that clock first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from service.core.delivery import (
    CLOCK_SLACK,
    Logged,
    Posted,
    Told,
    account,
    candidates,
    ids_of,
    lately,
)
from service.model import Conversation, EntryId, Outbound
from service.store.backlog import Unlisted
from service.store.partition import PartitionStore
from service.workers.clock import happened_by


class LoggingConnector(Protocol):
    """What settling doubts needs of the connector."""

    async def sent_to(self, conversation: Conversation, since: datetime) -> Sequence[Logged]:
        """Read the message log of one conversation back to `since`. Raises ConnectorError."""

    def moment(self, at: float) -> datetime:
        """Tell what the connector's clock showed at a time of ours (time.monotonic)."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """A POST whose end nobody saw.

    marked: when it was begun. arrives_by: until when the log may come to show it. Both
        time.monotonic. marked_at: `marked` by the connector's clock, as that was known then:
        time.monotonic stands still while a machine sleeps.
    """

    marked: float
    marked_at: datetime
    arrives_by: float


class Doubts:
    """Asks the connector's log about one partition's replies in doubt.

    arrival_s: how long a POST whose end nobody saw may take to show up in the log.
    """

    def __init__(
        self, store: PartitionStore, connector: LoggingConnector, arrival_s: float
    ) -> None:
        self._store = store
        self._connector = connector
        self._arrival_s = arrival_s

    def found_marked(self, marked: float) -> Doubt:
        """Make the doubt of a mark that an earlier worker left. marked: as Redis has it."""
        earliest, latest = happened_by(marked)
        return Doubt(earliest, self._connector.moment(earliest), latest + self._arrival_s)

    async def told(
        self,
        entry: EntryId,
        outbound: Outbound,
        doubt: Doubt,
        reading: Callable[[], AbstractContextManager[None]],
    ) -> tuple[Told, Logged | None]:
        """Tell whether a reply went out, and its row if it did.

        reading: wraps the reading of the log. Raises ConnectorError when that can't be read.
        """
        # Where no sid names the rows of earlier POSTs of the same words, the log is read back to
        # the first of them: as many of its rows are theirs.
        kept = await self._store.unlisted(outbound)
        first_at, others, since = self._placed(entry, doubt, kept)
        with reading():
            while True:
                read_to = since - 2 * CLOCK_SLACK
                logged = await self._connector.sent_to(outbound.conversation, read_to)
                # An answer tells what the connector's clock shows, and may be the first that does.
                first_at, others, since = self._placed(entry, doubt, kept)
                if since - CLOCK_SLACK >= read_to:
                    break
        rows = candidates(outbound, first_at, logged, since)
        known = await self._store.known_sids([id_ for row in rows for id_ in ids_of(row)])
        return account(rows, known, others, first_at, timedelta(seconds=self._arrival_s))

    def _placed(
        self, entry: EntryId, doubt: Doubt, kept: Sequence[Unlisted]
    ) -> tuple[datetime, list[Posted], datetime]:
        """Place the POSTs of the same words in time, by the connector's clock as it is known now.

        Returns when the reply was marked first, the POSTs of others whose rows could be taken for
        its own, and when the first of all these was marked.
        """
        moment = self._connector.moment
        posted = []
        for each in kept:
            earliest, latest = map(moment, happened_by(each.marked))
            posted.append(Posted(each.entry, earliest, latest, each.connector_id))
        mine = [each.at for each in posted if each.entry == entry]
        first_at = min([doubt.marked_at, moment(doubt.marked), *mine])
        others = lately([each for each in posted if each.entry != entry], first_at)
        return first_at, others, min([first_at, *(each.at for each in others)])
