"""The embedded Redis: a real server that keeps what it answered."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from service.errors import SettingsError, StoreUnavailable
from service.store.embedded import EmbeddedRedis

CONFIG = str(Path(__file__).parents[2] / "config" / "redis.conf")


def embedded(folder):
    """Make a server in the folder, with the configuration that ships."""
    return EmbeddedRedis(folder, Path(CONFIG))


def test_what_was_written_is_there_after_a_restart(tmp_path):
    """Texts accepted before a restart of the machine would be lost."""
    for expected in (None, b"1"):
        server = embedded(tmp_path)
        server.start()
        try:
            with redis.Redis.from_url(server.url) as client:
                assert client.get("kept") == expected
                client.set("kept", "1")
                assert client.config_get("appendfsync") == {"appendfsync": "always"}
        finally:
            server.stop()


def test_a_second_parley_is_told_who_has_the_folder(tmp_path):
    """Two servers writing one append-only file would destroy it."""
    from service.store import embedded as module

    assert module.LOCK_TIMEOUT_S > 10, "a stopping Parley takes up to 10 s to let go"
    server = embedded(tmp_path)
    server.start()
    try:
        code = (
            "import sys; from pathlib import Path; from service.store import embedded as e;"
            "from service.errors import SettingsError\n"
            "e.LOCK_TIMEOUT_S = 0.2\n"
            "try: e.EmbeddedRedis(Path(sys.argv[1]), Path(sys.argv[2])).start()\n"
            "except SettingsError as error: print(error); sys.exit(7)"
        )
        ran = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path), CONFIG],
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 7
        assert f"process {os.getpid()}" in ran.stdout
        assert "REDIS_URL" in ran.stdout
    finally:
        server.stop()


def test_a_mistake_in_its_configuration_is_told_with_file_and_line(tmp_path):
    """Redis's log ends in a line that tells neither."""
    config = tmp_path / "redis.conf"
    config.write_text("port 0\nfooo bar\n")
    with pytest.raises(StoreUnavailable) as caught:
        EmbeddedRedis(tmp_path / "data", config).start()
    said = str(caught.value)
    assert str(config) in said
    assert "at line 2" in said
    assert "fooo bar" in said


def test_a_server_left_behind_by_a_killed_parley_is_taken_over(tmp_path):
    """After kill -9 the next start would fail on its own leftover, or lose what it holds."""
    code = (
        "import sys, time; from pathlib import Path\n"
        "from service.store.embedded import EmbeddedRedis\n"
        "EmbeddedRedis(Path(sys.argv[1]), Path(sys.argv[2])).start(); print('up', flush=True)\n"
        "time.sleep(60)"
    )
    killed = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path), CONFIG], stdout=subprocess.PIPE
    )
    assert killed.stdout is not None
    assert killed.stdout.readline() == b"up\n"
    with redis.Redis(unix_socket_path=str(tmp_path / "redis.sock")) as client:
        client.set("kept", "1")
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    killed.stdout.close()
    server = embedded(tmp_path)
    server.start()
    try:
        with redis.Redis.from_url(server.url) as client:
            assert client.get("kept") == b"1"
    finally:
        server.stop()
    assert not server.socket.exists()


@pytest.mark.parametrize("origin", ["started", "taken over"])
def test_a_server_killed_under_traffic_is_started_again_with_all_it_confirmed(tmp_path, origin):
    """One killed Redis, by a machine short of memory say, would end the service for good."""
    server = embedded(tmp_path)
    if origin == "taken over":
        code = (
            "import os, sys; from pathlib import Path\n"
            "from service.store.embedded import EmbeddedRedis\n"
            "EmbeddedRedis(Path(sys.argv[1]), Path(sys.argv[2])).start(); os._exit(9)"
        )
        subprocess.run([sys.executable, "-c", code, str(tmp_path), CONFIG], check=False)
    server.start()
    try:
        with redis.Redis.from_url(server.url, retry=Retry(NoBackoff(), 0)) as client:
            confirmed = refused = 0
            for killing in (True, True, False):
                for _ in range(200):
                    client.rpush("list", confirmed)
                    confirmed += 1
                if killing:
                    os.kill(client.info("server")["process_id"], signal.SIGKILL)
                    deadline = time.monotonic() + 30
                    while True:
                        try:
                            client.rpush("list", confirmed)
                        except redis.RedisError:
                            refused += 1
                            assert time.monotonic() < deadline, "not started again within 30 s"
                            time.sleep(0.02)
                        else:
                            confirmed += 1
                            break
            assert refused, "it was away"
            # What was refused may be there as well; what was confirmed must be.
            kept = [int(each) for each in client.lrange("list", 0, -1)]
            assert sorted(set(kept)) == list(range(confirmed))
    finally:
        server.stop()
    assert not server.socket.exists()


def test_a_folder_too_deep_for_a_socket_is_said_to_be(tmp_path):
    """The kernel's own error names neither the setting nor the limit."""
    with pytest.raises(SettingsError, match=r"DATA_DIR: .* too long"):
        embedded(tmp_path / ("x" * 90)).start()
