"""Redis Cluster: finds the node of a key, follows MOVED and ASK, learns of fail-overs.

redis-py's client does so for single commands, but closes every connection when one node is away,
and asks the first primary for the table of commands even when that is the one that died. Here the
nodes are looked up beside what is under way.

This leans on what redis-py does not promise to keep, named in `tests/test_contracts.py`; with a
redis-py that was not tested `plain_cluster` takes its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redis.asyncio.cluster import ClusterNode, PipelineCommand
from redis.exceptions import (
    AskError,
    ClusterError,
    MovedError,
    RedisClusterException,
    RedisError,
)

from service.store.client import Command
from service.store.plain_cluster import AWAY, PlainCluster, slot_of

HOPS = 5
"""Redirections followed for one command. A settled cluster needs one, a migrated slot two."""


class Cluster(PlainCluster):
    """A client of a whole Cluster."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._known = False

    async def initialize(
        self,
        additional_startup_nodes_info: list[tuple[str, int]] | None = None,
        last_failed_node_name: str | None = None,
    ) -> Cluster:
        """Look the nodes up, unless they are known.

        redis-py calls it before each command: it takes itself for one that is not initialized.
        """
        if not self._known:
            try:
                await self.nodes_manager.initialize(
                    additional_startup_nodes_info, last_failed_node_name
                )
            except RedisClusterException as error:  # which is no RedisError
                raise ClusterError(str(error)) from error
            if not self.commands_parser.commands:
                await self._learn_commands()
            self._known = True
        return self

    async def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        """Run one command, and have the nodes looked up anew after its node was away."""
        try:
            return await super().execute_command(*args, **kwargs)
        except AWAY as error:
            await self.look_up_again(getattr(error, "last_failed_node_name", ""))
            raise

    async def aclose(self) -> None:
        """Close every connection, also while the nodes are to be looked up."""
        self._known = False
        await self.nodes_manager.aclose()
        await self.nodes_manager.aclose("startup_nodes")

    async def look_up_again(self, failed: str) -> None:
        """Have the nodes looked up before the next command; others than `failed` are asked first.

        Connections stay: a look-up must not cut what is under way on other nodes.
        """
        self.nodes_manager.move_node_to_end_of_cached_nodes(failed)
        self._known = False

    def place(self, key: str) -> tuple[str, int]:
        """Name the node of a key, "" while that is not known, and tell its slot."""
        slot = slot_of(key)
        nodes = self.nodes_manager.slots_cache.get(slot)
        return nodes[0].name if nodes else "", slot

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

    async def in_one_trip(self, node: ClusterNode, commands: Sequence[Command]) -> list[Any]:
        """Send commands to one node on one connection. Raises what redis-py raises."""
        queue = [PipelineCommand(i, *command) for i, command in enumerate(commands)]
        await node.execute_pipeline(queue)
        return [command.result for command in queue]

    async def follow(
        self, key: str, redirection: AskError, commands: Sequence[Command]
    ) -> Sequence[Any]:
        """Send commands of one slot to where a redirection says, and on from there."""
        for _ in range(HOPS):
            if isinstance(redirection, MovedError):
                await self.nodes_manager.move_slot(redirection)
                answers = await self.ask(self.node_of(key), commands)
            else:
                node = self.get_node(redirection.host, redirection.port)
                if node is None:
                    break
                answers = (await self.ask(node, [("ASKING",), *commands]))[1:]
            if not isinstance(answers[0], AskError):
                return answers
            redirection = answers[0]
        await self.look_up_again("")
        return [ClusterError(f"slot {slot_of(key)} was redirected too often")]
