"""Redis Cluster: finds the node of a key, follows MOVED and ASK, learns of fail-overs.

redis-py's client does so for single commands. For pipelines it does not: one that meets a dead
node fails for ever, as nothing looks for the node's successor. What a script's round trip needs,
several commands on one connection of one node, is here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from redis.asyncio.cluster import ClusterNode, ClusterPipeline, PipelineCommand, RedisCluster
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

HOPS = 5
"""Redirections followed for one command. A settled cluster needs one, a migrated slot two."""

Command = tuple[Any, ...]
"""A command and its arguments: str, bytes or int."""

AWAY = (ConnectionError, TimeoutError, ClusterDownError, RedisClusterException, OSError)
"""What shows that the nodes have to be looked up anew; BusyLoadingError is among them."""


def slot_of(key: str) -> int:
    """Return the slot of a key, from 0 to 16383, by its hash tag."""
    return key_slot(key.encode())


class Cluster(RedisCluster):
    """A client of a whole Cluster.

    Made by `service.store.connection.connect`; takes the same commands as a client of one server.
    """

    async def initialize(
        self,
        additional_startup_nodes_info: list[tuple[str, int]] | None = None,
        last_failed_node_name: str | None = None,
    ) -> Cluster:
        """Look the nodes up, unless they are known.

        redis-py's own closes every connection when one node is away, and asks the first primary
        for the table of commands even when that is the one that died.
        """
        if self._initialize:
            try:
                await self.nodes_manager.initialize(
                    additional_startup_nodes_info, last_failed_node_name
                )
            except RedisClusterException as error:  # which is no RedisError
                raise ClusterError(str(error)) from error
            if not self.commands_parser.commands:
                await self._learn_commands()
            self._initialize = False
        return self

    async def aclose(self) -> None:
        """Close every connection, also while the nodes are to be looked up."""
        self._initialize = False
        await super().aclose()

    def node_name(self, slot: int) -> str:
        """Name the node that serves a slot, "" while that is not known."""
        nodes = self.nodes_manager.slots_cache.get(slot)
        return nodes[0].name if nodes else ""

    async def primaries(self) -> list[ClusterNode]:
        """Return every node that serves slots. Raises what redis-py raises."""
        await self.initialize()
        return self.get_primaries()

    async def send(
        self, calls: Sequence[tuple[int, Command]], after: Sequence[Command]
    ) -> list[Sequence[Any]]:
        """Send each command to the node of its slot: one round trip, all nodes at the same time.

        after: commands that each node gets behind its own, on the same connection.
        Returns for each call its answer and those to `after`, errors among them.
        """
        found: list[Sequence[Any]] = [()] * len(calls)
        try:
            await self.initialize()
        except (RedisError, OSError) as error:
            return [(error,)] * len(calls)
        at: dict[str, tuple[ClusterNode, list[int]]] = {}
        for place, (slot, _) in enumerate(calls):
            try:
                node = self._node(slot)
            except ClusterError as error:
                found[place] = (error,)
            else:
                at.setdefault(node.name, (node, []))[1].append(place)

        async def ask(node: ClusterNode, places: list[int]) -> None:
            answers = await self._ask(node, [*(calls[p][1] for p in places), *after])
            confirmed = answers[len(places) :]
            for place, answer in zip(places, answers, strict=False):
                slot, command = calls[place]
                found[place] = (
                    await self._follow(slot, answer, (command, *after))
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

    def look_up_again(self, failed: str) -> None:
        """Have the nodes looked up before the next command.

        failed: name of the node that was away; others are asked before it.
        """
        self.nodes_manager.move_node_to_end_of_cached_nodes(failed)
        self._initialize = True

    async def _learn_commands(self) -> None:
        failure: Exception = ClusterError("no node serves any slot")
        for node in self.get_primaries():
            try:
                await self.commands_parser.initialize(node)
            except (RedisError, OSError) as error:
                failure = error
            else:
                return
        raise failure

    def _node(self, slot: int) -> ClusterNode:
        nodes = self.nodes_manager.slots_cache.get(slot)
        if not nodes:
            raise ClusterError(f"no node serves slot {slot}")
        return nodes[0]

    async def _ask(self, node: ClusterNode, commands: Sequence[Command]) -> list[Any]:
        """Send commands to one node on one connection; an answer of each, errors among them."""
        queue = [PipelineCommand(i, *command) for i, command in enumerate(commands)]
        try:
            await node.execute_pipeline(queue)
            answers = [command.result for command in queue]
        except (RedisError, OSError) as error:
            answers = [error] * len(queue)
        if any(isinstance(answer, AWAY) for answer in answers):
            self.look_up_again(node.name)
        return answers

    async def _follow(
        self, slot: int, redirection: AskError, commands: Sequence[Command]
    ) -> Sequence[Any]:
        """Send commands of one slot to where a redirection says, and on from there."""
        for _ in range(HOPS):
            if isinstance(redirection, MovedError):
                await self.nodes_manager.move_slot(redirection)
                answers = await self._ask(self._node(slot), commands)
            else:
                node = self.get_node(redirection.host, redirection.port)
                if node is None:
                    break
                answers = (await self._ask(node, [("ASKING",), *commands]))[1:]
            if not isinstance(answers[0], AskError):
                return answers
            redirection = answers[0]
        self.look_up_again("")
        return [ClusterError(f"slot {slot} was redirected too often")]


class _Pipeline(ClusterPipeline):
    async def execute(
        self,
        raise_on_error: bool = True,  # noqa: FBT001, FBT002  (redis-py's signature)
        allow_redirections: bool = True,  # noqa: FBT001, FBT002
    ) -> list[Any]:
        cluster = self.cluster_client
        try:
            answers = await super().execute(raise_on_error, allow_redirections)
        except AWAY as error:
            if isinstance(cluster, Cluster):
                cluster.look_up_again(getattr(error, "last_failed_node_name", ""))
            raise
        return list(answers)
