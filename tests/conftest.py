"""What every test may use: a Redis of the run's own, emptied before each test that asks for one."""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
import shutil
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import settings

from tests.lanes import groups_of, turn_of, workers_for
from tests.programs import program
from tests.redis_servers import cluster, redis_binary

# A machine that is busy takes longer for an example now and then, and nothing is wrong.
settings.register_profile("unhurried", settings(), deadline=None)
settings.load_profile("unhurried")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """The product runs on asyncio, and so do its tests."""
    return "asyncio"


@pytest.fixture(scope="session")
def redis_process() -> Iterator[str]:
    """One Redis for the whole run, its append-only file synced always.

    A server on a Unix socket: TEST_REDIS_SERVER, else what the service would run. With
    TEST_REDIS=cluster a Cluster of three masters instead.
    """
    if os.environ.get("TEST_REDIS") == "cluster":
        with cluster(replicas=0) as servers:
            yield servers.url
        return
    folder = tempfile.mkdtemp(prefix="parley-test-")
    path = Path(folder) / "redis.sock"
    command = [redis_binary(), "--port", "0", "--unixsocket", str(path), "--dir", folder]
    command += ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        with redis.Redis(unix_socket_path=str(path)) as client:
            deadline = time.monotonic() + 10
            while True:
                try:
                    client.ping()
                    break
                except redis.ConnectionError:
                    assert time.monotonic() < deadline, "the test's Redis did not start in 10 s"
                    time.sleep(0.02)
        yield f"unix://{path}"
    finally:
        server.terminate()
        server.wait(10)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def redis_server(redis_process: str) -> str:
    """The URL of an empty Redis. It is the run's own server: nothing of a user's is touched."""
    if redis_process.startswith("redis+cluster://"):
        node = redis_process.removeprefix("redis+cluster://").partition(",")[0]
        # Of each node by itself: redis-py's client of a whole Cluster leaves a socket open.
        with redis.Redis.from_url(f"redis://{node}") as one:
            masters = {row[2][1] for row in one.execute_command("CLUSTER SLOTS")}
        for port in masters:
            with redis.Redis(port=port) as one:
                one.flushall()
        return redis_process
    with redis.Redis.from_url(redis_process) as client:
        for key in client.scan_iter("*", count=1000):
            client.delete(key)
    return redis_process


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that no authority signed, and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "parley test")])
    now = dt.datetime.now(dt.UTC)
    alternative = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(alternative, critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


@pytest.fixture
def server_tls(certificate: Path) -> ssl.SSLContext:
    """The server's side of TLS."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    return context


@pytest.fixture(scope="session")
def promtool() -> str:
    """Prometheus' own checker."""
    return program("promtool", package="prometheus")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let a failed round of chaos be run again, and more of them than usual."""
    parser.addoption("--long", action="store_true", help="run the tests that take long as well")
    parser.addoption("--waiting", type=int, default=30_000, help="texts that wait (30000)")
    parser.addoption("--hostile", type=int, default=5_000, help="hostile callbacks (5000)")
    parser.addoption("--hostile-seed", type=int, default=10, help="others of them (10)")
    parser.addoption("--chaos-seed", default=None, help="run one round of chaos, with this seed")
    parser.addoption(
        "--chaos-rounds",
        type=int,
        default=3,
        help="rounds of chaos (3)",
    )


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Share the suite out among workers; single files run here, where a debugger reaches them."""
    return workers_for(config.option.file_or_dir)


@pytest.hookimpl(tryfirst=True)  # pytest-xdist reads the groups in its own
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let few whole systems run at once, and begin with them: they take longest."""
    left_out = set()
    if not config.getoption("long"):
        left_out = {item for item in items if item.get_closest_marker("long")}
    for item in left_out:
        item.add_marker(pytest.mark.skip(reason="takes long: --long runs it, as CI does"))
    items.sort(key=lambda item: turn_of(item.nodeid, left_out=item in left_out))
    for item, group in zip(items, groups_of([item.nodeid for item in items]), strict=True):
        item.add_marker(pytest.mark.xdist_group(group))
