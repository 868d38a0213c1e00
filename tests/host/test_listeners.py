"""Listeners: an address is had, or it is said why not, whoever else wants it at the same time."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from service.errors import SettingsError
from service.host.listeners import listen
from tests.present import present

ROUNDS = 200

CONTENDER = """
import sys
from service.errors import SettingsError
from service.host.listeners import listen
for line in sys.stdin:
    try:
        listener = listen("127.0.0.1", int(line), "INTERNAL_PORT")
    except SettingsError as error:
        print(error, flush=True)
    else:
        print("listens", flush=True)
        sys.stdin.readline()
        listener.close()
"""


@contextmanager
def bound() -> Iterator[int]:
    """A port that another process has bound, as ours do, and does not listen at yet."""
    code = (
        "import socket, sys; s = socket.socket(); "
        "s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(('127.0.0.1', 0)); "
        "print(s.getsockname()[1], flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield int(present(other.stdout).readline())
    finally:
        other.kill()
        other.communicate()


def test_a_port_that_another_has_only_bound_is_had_whole_or_not_at_all() -> None:
    """Both would believe to have it, and `listen` would end one of them with a traceback."""
    with bound() as port, listen("127.0.0.1", port, "PORT") as listener:
        assert listener.getsockname()[1] == port
        with pytest.raises(SettingsError, match=f"PORT: 127.0.0.1:{port} is not to be had"):
            listen("127.0.0.1", port, "PORT")


def test_of_two_that_want_a_port_at_once_one_has_it_and_the_other_is_told() -> None:
    """Two services that a machine starts together: one would be gone without a plain word."""
    command = [sys.executable, "-c", CONTENDER]
    both = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    try:
        for _ in range(ROUNDS):
            with socket.create_server(("127.0.0.1", 0)) as free:
                port = free.getsockname()[1]
            for each in both:
                present(each.stdin).write(f"{port}\n")
            for each in both:
                present(each.stdin).flush()
            said = [present(each.stdout).readline().strip() for each in both]
            refused = f"INTERNAL_PORT: 127.0.0.1:{port} is not to be had (Address already in use)"
            assert sorted(text.partition(";")[0] for text in said) == [refused, "listens"]
            winner = both[said.index("listens")]
            present(winner.stdin).write("\n")
            present(winner.stdin).flush()
    finally:
        for each in both:
            each.kill()
            each.communicate()


def test_listening_that_fails_is_told_like_binding_that_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The kernel refuses the second of two that have bound a port only when it listens."""
    first = socket.socket()
    first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    first.bind(("127.0.0.1", 0))
    port = first.getsockname()[1]
    bind = socket.socket.bind

    class Late(socket.socket):
        """Between whose two steps another process comes first."""

        def bind(self, address: Any) -> None:
            bind(self, address)
            first.listen()

    monkeypatch.setattr("service.host.listeners.socket.socket", Late)
    with first, pytest.raises(SettingsError, match=f"{port} is not to be had"):
        listen("127.0.0.1", port, "INTERNAL_PORT")
