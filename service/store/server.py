"""The client of one server, or of the master that Sentinel names."""

from __future__ import annotations

from collections.abc import Sequence

from redis.asyncio import Redis
from redis.asyncio.sentinel import SentinelConnectionPool

from service.store.client import Execute
from service.store.handover import Handed
from service.store.link import Link, PlainLink
from service.store.reading import OneRead
from service.store.trips import ServerTrips


class Server(Redis):
    """A `client.Redis`: one server has all keys."""

    of_cluster = False

    def trips(self) -> ServerTrips:
        """Make what sends scripts to it, on a kept connection if one can be handed over."""
        kept = issubclass(self.connection_pool.connection_class, Handed)
        return ServerTrips(Link(self) if kept else PlainLink(self), self._leave)

    def reader(self) -> OneRead:
        """Make what waits for entries of its streams."""
        return OneRead(self)

    async def each_server(self) -> Sequence[Execute]:
        """Return what runs a command on it."""
        return [self.execute_command]

    async def _leave(self) -> None:
        """Drop idle connections: the server was demoted, its name leads elsewhere."""
        await self.connection_pool.disconnect(inuse_connections=False)


class ThroughSentinel(Server):
    """Closes the connections to the Sentinels as well."""

    async def aclose(self, close_connection_pool: bool | None = None) -> None:  # noqa: FBT001
        """Close every connection."""
        pool = self.connection_pool
        await super().aclose(close_connection_pool)
        if isinstance(pool, SentinelConnectionPool):
            await pool.sentinel_manager.aclose()
