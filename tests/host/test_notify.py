"""What a service tells whoever started it, over real sockets and pipes."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex

import pytest
import structlog

from service.host.notify import OurSupervisor, Systemd, numbers_told


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """A service manager's socket, and its address as NOTIFY_SOCKET names it."""
    address = str(tmp_path / "notify")
    if request.param == "abstract":
        if sys.platform != "linux":
            pytest.skip("abstract sockets are Linux's own")
        address = f"@parley-test-{token_hex(8)}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(address.replace("@", "\0", 1) if address.startswith("@") else address)
        heard.settimeout(5)
        yield address, heard


def test_the_service_manager_hears_that_it_is_up_and_that_it_stops(
    manager: tuple[str, socket.socket],
) -> None:
    """Otherwise systemd waits for a service that runs, and kills it for being late."""
    address, heard = manager
    systemd = Systemd(address)

    systemd.up()
    systemd.stopping()

    assert [heard.recv(100), heard.recv(100)] == [b"READY=1", b"STOPPING=1"]


def test_without_a_service_manager_nothing_is_told() -> None:
    """Otherwise every start by hand or in a container would warn of a socket nobody has."""
    with structlog.testing.capture_logs() as lines:
        Systemd("").up()

    assert lines == []


def test_a_service_manager_that_is_not_there_is_a_warning(tmp_path: Path) -> None:
    """Otherwise a service that works would end because nobody listens to it."""
    with structlog.testing.capture_logs() as lines:
        Systemd(str(tmp_path / "nobody")).up()

    assert [(line["log_level"], line["state"]) for line in lines] == [("warning", "READY=1")]


def test_the_supervisor_hears_which_processes_are_up() -> None:
    """Otherwise one process that starts twice would pass for two."""
    told, up = os.pipe()
    os.set_blocking(told, False)
    try:
        assert numbers_told(told) == set()
        for number in (0, 255, 0):
            OurSupervisor(up, number).up()
        assert numbers_told(told) == {0, 255}
        assert numbers_told(told) == set()
    finally:
        os.close(told)
        os.close(up)
