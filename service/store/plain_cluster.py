"""Redis Cluster by what redis-py documents alone; `cluster` is faster and closes less.

redis-py finds the node of a key, follows redirections and learns of fail-overs for single
commands. What a script's round trip needs, several commands on one connection of one node, is
here, and so is a pipeline that has the nodes looked up again after one of them died.

The way that is taken with a redis-py that was not tested. The nodes are looked up anew by closing
every connection, and a slot that is being moved refuses until it has arrived.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from redis.asyncio.cluster import ClusterNode, ClusterPipeline, RedisCluster
from redis.crc import key_slot
from redis.exceptions import (
    AskError,
    ClusterDownError,
    ClusterError,
    ConnectionError,  # noqa: A004  (redis-py's, by its name)
    MovedError,
    RedisClusterException,
    RedisError,
    TimeoutError,  # noqa: A004  (the same)
)

from service.store.client import Command, Execute
from service.store.reading import ReadsByStream
from service.store.trips import ClusterTrips

AWAY = (ConnectionError, TimeoutError, ClusterDownError, RedisClusterException, OSError)
"""What shows that the nodes have to be looked up anew; BusyLoadingError is among them."""


def slot_of(key: str) -> int:
    """Return the slot of a key, from 0 to 16383, by its hash tag."""
    return key_slot(key.encode())


class PlainCluster(RedisCluster):
    """A `client.Redis`: keys lie on several servers, by their slots."""

    of_cluster = True

    def trips(self) -> ClusterTrips:
        """Make what sends scripts to it."""
        return ClusterTrips(self)

    def reader(self) -> ReadsByStream:
        """Make what waits for entries of its streams."""
        return ReadsByStream(self)

    async def each_server(self) -> Sequence[Execute]:
        """Return what runs a command on each node that serves slots. Raises what redis-py does."""
        await self.look_up()
        return [node.execute_command for node in self.get_primaries()]

    def place(self, key: str) -> tuple[str, int]:
        """Name the node of a key, "" while that is not known, and tell its slot."""
        try:
            node = self.get_node_from_key(key)
        except (RedisClusterException, RedisError):
            node = None
        return node.name if node is not None else "", slot_of(key)

    async def send(
        self, calls: Sequence[tuple[str, Command]], after: Sequence[Command]
    ) -> list[Sequence[Any]]:
        """Send each command to the node of its key: one round trip, all nodes at the same time.

        after: commands that each node gets behind its own, on the same connection.
        Returns for each call its answer and those to `after`, errors among them.
        """
        found: list[Sequence[Any]] = [()] * len(calls)
        try:
            await self.look_up()
        except (RedisError, OSError) as error:
            return [(error,)] * len(calls)
        at: dict[str, tuple[ClusterNode, list[int]]] = {}
        for place, (key, _) in enumerate(calls):
            try:
                node = self.node_of(key)
            except ClusterError as error:
                found[place] = (error,)
            else:
                at.setdefault(node.name, (node, []))[1].append(place)

        async def ask(node: ClusterNode, places: list[int]) -> None:
            answers = await self.ask(node, [*(calls[p][1] for p in places), *after])
            confirmed = answers[len(places) :]
            for place, answer in zip(places, answers, strict=False):
                key, command = calls[place]
                found[place] = (
                    await self.follow(key, answer, (command, *after))
                    if isinstance(answer, AskError)
                    else (answer, *confirmed)
                )

        await asyncio.gather(*(ask(node, places) for node, places in at.values()))
        return found

    def pipeline(
        self, transaction: Any | None = None, shard_hint: Any | None = None
    ) -> ClusterPipeline:
        """Make a pipeline that has the nodes looked up anew after it has failed."""
        if transaction:
            # redis-py would start a thread and an event loop for every command of it.
            raise NotImplementedError("transactions are not used: scripts are")
        return _Pipeline(self)  # type: ignore[abstract]  # redis-py declares what it never sets

    async def look_up(self) -> None:
        """Look the nodes up, unless they are known. Raises RedisError, OSError."""
        try:
            await self.initialize()
        except RedisClusterException as error:  # which is no RedisError
            raise ClusterError(str(error)) from error

    async def look_up_again(self, failed: str) -> None:
        """Have the nodes looked up before the next command.

        failed: name of the node that was away, "" where none was.
        """
        await self.aclose()

    def node_of(self, key: str) -> ClusterNode:
        """Return the node that serves a key. Raises ClusterError."""
        try:
            node = self.get_node_from_key(key)
        except (RedisClusterException, RedisError) as error:
            raise ClusterError(f"no node serves slot {slot_of(key)}") from error
        if node is None:
            raise ClusterError(f"no node serves slot {slot_of(key)}")
        return node

    async def ask(self, node: ClusterNode, commands: Sequence[Command]) -> list[Any]:
        """Send commands to one node on one connection; an answer of each, errors among them."""
        try:
            answers = await self.in_one_trip(node, commands)
        except (RedisError, RedisClusterException, OSError) as error:
            answers = [error] * len(commands)
        if any(isinstance(answer, AWAY) for answer in answers):
            await self.look_up_again(node.name)
        return answers

    async def in_one_trip(self, node: ClusterNode, commands: Sequence[Command]) -> list[Any]:
        """Send commands to one node on one connection. Raises what redis-py raises."""
        pipeline = super().pipeline()
        for command in commands:
            pipeline.execute_command(*command, target_nodes=node)
        answers = await pipeline.execute(raise_on_error=False, allow_redirections=False)
        return list(answers)

    async def follow(
        self, key: str, redirection: AskError, commands: Sequence[Command]
    ) -> Sequence[Any]:
        """Answer for commands that another node has to be asked: refuse until it is known."""
        if isinstance(redirection, MovedError):
            await self.look_up_again("")
        return [ClusterError(f"slot {slot_of(key)} is served by another node from now on")]


class _Pipeline(ClusterPipeline):
    def __init__(self, client: PlainCluster) -> None:
        super().__init__(client)
        self._cluster = client

    async def execute(
        self,
        raise_on_error: bool = True,  # noqa: FBT001, FBT002  (redis-py's signature)
        allow_redirections: bool = True,  # noqa: FBT001, FBT002
    ) -> list[Any]:
        try:
            answers = await super().execute(raise_on_error, allow_redirections)
        except AWAY as error:
            await self._cluster.look_up_again(getattr(error, "last_failed_node_name", ""))
            raise
        return list(answers)
