"""Tables on a terminal of eighty columns: a real one, of the system's own."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import redis

from service.core import entries
from service.model import Conversation, MessageSid, Outbound, Partition, Reply
from service.store.keys import PARTITION_COUNT, PartitionKeys
from tests.cli.test_commands import COMPLETE

ROOT = Path(__file__).parents[2]
ERROR = "RuntimeError: " + "no such thing " * 20


def on_terminal(columns: int, *arguments: str, **environ: str) -> list[str]:
    """Run a command on a terminal so wide; returns the lines it prints."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    given = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "PYTHONPATH": str(ROOT)} | environ
    command = [sys.executable, "-m", "service", *arguments]
    process = subprocess.Popen(command, env=given | {"TERM": "xterm"}, stdout=theirs, stderr=theirs)
    os.close(theirs)
    said = b""
    try:
        while part := os.read(ours, 65536):
            said += part
    except OSError:
        pass  # how a terminal ends on Linux
    finally:
        os.close(ours)
        process.wait(30)
    return re.sub(r"\x1b\[[0-9;]*m", "", said.decode()).splitlines()


def test_no_setting_is_split(redis_server: str) -> None:
    """A name in two halves can neither be found nor copied."""
    lines = on_terminal(80, "settings", **COMPLETE)
    assert max(map(len, lines)) <= 80
    first = {line.split(" ")[0] for line in lines}
    assert {"OPEN_CONNECTORS_ORGANIZATION_SECRET", "OPEN_CONNECTORS_BASE_URL", "PORT"} <= first


def test_no_id_of_a_dead_letter_is_split(redis_server: str) -> None:
    """`parley dead replay` takes it as it is."""
    if redis_server.startswith("redis+cluster://"):
        seed = "redis://" + redis_server.removeprefix("redis+cluster://").partition(",")[0]
        client: Any = redis.RedisCluster.from_url(seed)
    else:
        client = redis.Redis.from_url(redis_server)
    reply = Outbound(Conversation("+15005550100", "+15005550123"), Reply("x"), MessageSid("SM1"), 0)
    fields = {"v": b"1", "k": b"r", "d": entries.encode(reply), "error": ERROR, "tries": "8"}
    with client:
        client.set(PARTITION_COUNT, 16)
        keys = PartitionKeys(Partition(13))
        client.xadd(keys.dead, fields | {"route": 'keyword "HELP"', "at": "1700000000000"})
        (entry,) = client.xrange(keys.dead)
    id_ = f"13-{entry[0].decode()}"
    environ = COMPLETE | {"REDIS_URL": redis_server}

    narrow = on_terminal(80, "dead", "list", **environ)
    (row,) = [line for line in narrow if line.startswith(f"{id_} ")]
    assert len(row) <= 80
    assert row.split() == [id_, "reply", "2023-11-14", "22:13:20", "+15005550123", "8"]
    assert f"    {ERROR}".rstrip() in [line.rstrip() for line in narrow]
    assert '    keyword "HELP"' in narrow

    roomy = on_terminal(160, "dead", "list", **environ)
    (row,) = [line for line in roomy if line.startswith(f"{id_} ")]
    assert "RuntimeError" in row
