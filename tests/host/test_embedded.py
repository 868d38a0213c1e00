"""The embedded Redis: a real server that keeps what it answered."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from service.errors import SettingsError, StoreUnavailable
from service.host.embedded import EmbeddedRedis

CONFIG = str(Path(__file__).parents[2] / "config" / "redis.conf")


def embedded(folder: Path) -> EmbeddedRedis:
    """Make a server in the folder, with the configuration that ships."""
    return EmbeddedRedis(folder, Path(CONFIG))


def test_what_was_written_is_there_after_a_restart(tmp_path: Path) -> None:
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


def modes(folder: Path) -> dict[Path, int]:
    """The rights of everything in a folder, itself included."""
    return {each: stat.S_IMODE(each.lstat().st_mode) for each in (folder, *folder.rglob("*"))}


def test_nobody_else_on_the_machine_can_read_what_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every text is in the append-only file, and the socket takes commands."""
    folder = tmp_path / "data"
    server = embedded(folder)
    monkeypatch.setenv("TWILIO_AUTH_TOKEN", "not-for-the-server")
    before = os.umask(0o022)
    try:
        server.start()
        try:
            with redis.Redis.from_url(server.url) as client:
                client.set("kept", "1")
                client.save()
                [pid] = [client.info("server")["process_id"]]
            found = modes(folder)
            told = Path(f"/proc/{pid}/environ").read_bytes()
        finally:
            server.stop()
    finally:
        os.umask(before)
    assert {path.name for path in found} >= {"redis.sock", "dump.rdb", "parley.lock", "redis.log"}
    assert any(path.name.endswith(".aof") for path in found)
    assert {path.name: oct(mode) for path, mode in found.items() if mode & 0o077} == {}
    assert found[folder] == 0o700
    assert found[folder / "redis.sock"] == 0o600
    assert b"not-for-the-server" not in told


def test_a_folder_of_before_that_is_open_is_closed(tmp_path: Path) -> None:
    """An earlier version, or an operator's `mkdir`, left it readable for everybody."""
    folder = tmp_path / "data"
    for _ in range(2):
        server = embedded(folder)
        server.start()
        server.stop()
        assert not [path for path, mode in modes(folder).items() if mode & 0o077]
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o777 if path.is_dir() else 0o666)
    empty = tmp_path / "empty"
    empty.mkdir(mode=0o777)
    empty.chmod(0o777)
    (empty / "lost+found").mkdir(mode=0o700)
    server = embedded(empty)
    server.start()
    server.stop()
    assert modes(empty)[empty] == 0o700


def test_a_folder_that_is_for_others_as_well_is_refused(tmp_path: Path) -> None:
    """Closing /srv would take it from everybody; leaving it open would show every text."""
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o755)
    (folder / "theirs.txt").touch()
    with pytest.raises(SettingsError, match=r"DATA_DIR: .* holds what is not Parley's; name"):
        embedded(folder).start()
    assert modes(folder)[folder] == 0o755
    assert [path.name for path in folder.iterdir()] == ["theirs.txt"]


def test_a_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    """Its owner can open it again, and read and change what is kept in it."""
    folder = Path("/")
    if os.geteuid() == 0:
        folder = tmp_path / "theirs"
        folder.mkdir(mode=0o700)
        os.chown(folder, 12345, 12345)
    with pytest.raises(SettingsError, match=r"belongs to another user .* chown it"):
        embedded(folder).start()


def test_a_second_parley_is_told_who_has_the_folder(tmp_path: Path) -> None:
    """Two servers writing one append-only file would destroy it."""
    from service.host import data_folder as module

    assert module.LOCK_TIMEOUT_S > 10, "a stopping Parley takes up to 10 s to let go"
    server = embedded(tmp_path)
    server.start()
    try:
        code = (
            "import sys; from pathlib import Path;"
            "from service.host import data_folder, embedded as e;"
            "from service.errors import SettingsError\n"
            "data_folder.LOCK_TIMEOUT_S = 0.2\n"
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


def test_a_mistake_in_its_configuration_is_told_with_file_and_line(tmp_path: Path) -> None:
    """Redis's log ends in a line that tells neither."""
    config = tmp_path / "redis.conf"
    config.write_text("port 0\nfooo bar\n")
    with pytest.raises(StoreUnavailable) as caught:
        EmbeddedRedis(tmp_path / "data", config).start()
    said = str(caught.value)
    assert str(config) in said
    assert "at line 2" in said
    assert "fooo bar" in said


def test_a_server_left_behind_by_a_killed_parley_is_taken_over(tmp_path: Path) -> None:
    """After kill -9 the next start would fail on its own leftover, or lose what it holds."""
    code = (
        "import sys, time; from pathlib import Path\n"
        "from service.host.embedded import EmbeddedRedis\n"
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
def test_a_server_killed_under_traffic_is_started_again_with_all_it_confirmed(
    tmp_path: Path, origin: str
) -> None:
    """One killed Redis, by a machine short of memory say, would end the service for good."""
    server = embedded(tmp_path)
    if origin == "taken over":
        code = (
            "import os, sys; from pathlib import Path\n"
            "from service.host.embedded import EmbeddedRedis\n"
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


def test_a_folder_too_deep_for_a_socket_is_said_to_be(tmp_path: Path) -> None:
    """The kernel's own error names neither the setting nor the limit."""
    with pytest.raises(SettingsError, match=r"DATA_DIR: .* too long"):
        embedded(tmp_path / ("x" * 90)).start()


def test_a_key_is_kept_with_it_for_us_alone_and_never_replaced(tmp_path: Path) -> None:
    """Others would open what is sealed, or nobody could any more."""
    key, folder = "0123456789abcdef" * 4, tmp_path / "data"
    server = embedded(folder)
    server.start(key=key)
    server.stop()
    file = folder / "secret.key"
    assert (file.read_text(), stat.S_IMODE(file.stat().st_mode)) == (f"{key}\n", 0o600)
    with pytest.raises(SettingsError, match="another start has just made one up"):
        server.start(key="another key" * 4)
    assert file.read_text() == f"{key}\n"
    file.chmod(0o644)
    server.start()
    try:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    finally:
        server.stop()
