"""The data folder of the embedded Redis: for its user alone, and for one Parley at a time."""

from __future__ import annotations

import fcntl
import os
import stat
import time
from pathlib import Path
from typing import IO, Any

import structlog

from service.errors import SettingsError
from service.settings.sources import BEGUN, KEY_FILE

log = structlog.get_logger()

LOCK_TIMEOUT_S = 12.0
"""Longest wait for a Parley that is just stopping to let go of the data folder."""

SOCKET_PATH_LIMIT = 100
"""Bytes a Unix socket's path may have; the kernel's own limit is 104 to 108."""

LOCK_FILE = BEGUN
KEPT = (LOCK_FILE, KEY_FILE, "redis.*", "*.rdb", "*.aof", "appendonlydir", "appendonlydir/*")
"""What Parley and its Redis make in the folder."""

OTHERS = 0o077
"""The rights of everybody but the owner."""


def prepare(folder: Path, socket: Path) -> None:
    """Make the folder, closed to everybody else.

    socket: the path of the Unix socket in it. Raises SettingsError when it can't be used.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise SettingsError(
            [f"DATA_DIR: can't make {folder} ({error.strerror}); name another folder"]
        ) from error
    _close_to_others(folder)
    if len(os.fsencode(socket)) > SOCKET_PATH_LIMIT:
        raise SettingsError(
            [
                (
                    f"DATA_DIR: the path {folder} is too long for a Unix socket "
                    f"({SOCKET_PATH_LIMIT} bytes with /redis.sock); name a shorter one"
                )
            ]
        )


def _close_to_others(folder: Path) -> None:
    """See to it that nobody but us can read the folder. Raises SettingsError when that can't be.

    A folder of ours that was open is closed, and so is an empty one. One that holds other things
    may be meant for others: closing /srv or a home would do more harm than good.
    """
    found = folder.stat()
    own = f"name a folder of its own, such as {folder / 'parley'}"
    if found.st_uid != os.geteuid():
        raise SettingsError(
            [
                (
                    f"DATA_DIR: {folder} belongs to another user (uid {found.st_uid}; this is "
                    f"{os.geteuid()}), who could read every text; {own}, or chown it"
                )
            ]
        )
    if found.st_mode & OTHERS:
        # A file system of its own has the latter from its making.
        names = {each.name for each in folder.iterdir()} - {"lost+found"}
        if names and LOCK_FILE not in names:
            raise SettingsError(
                [
                    (
                        f"DATA_DIR: {folder} is open to other users and holds what is not "
                        f"Parley's; {own}, or close it: chmod 700 {folder}"
                    )
                ]
            )
        folder.chmod(0o700)
        if folder.stat().st_mode & OTHERS:
            raise SettingsError(
                [f"DATA_DIR: {folder} stays open to other users whatever is done; {own} elsewhere"]
            )
        log.warning(
            "DATA_DIR was open to other users and is closed now",
            folder=str(folder),
            mode=f"{stat.S_IMODE(found.st_mode):o}",
        )
    for pattern in KEPT:
        for path in folder.glob(pattern):
            mode = path.lstat().st_mode
            if mode & OTHERS and not stat.S_ISLNK(mode):
                path.chmod(stat.S_IMODE(mode) & ~OTHERS)


def open_privately(path: Path, mode: str, **options: Any) -> IO[Any]:
    """Open a file, for this user alone when it is made."""
    return open(path, mode, opener=lambda name, flags: os.open(name, flags, 0o600), **options)


def lock(folder: Path) -> IO[str]:
    """Hold the lock file until it is closed.

    Raises SettingsError, which tells who holds it, when another Parley does for too long.
    """
    handle = open_privately(folder / LOCK_FILE, "a+", encoding="ascii")
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    told = False
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except OSError as error:
            if time.monotonic() > deadline:
                handle.seek(0)
                holder = handle.read().strip() or "unknown"
                handle.close()
                raise SettingsError(
                    [
                        (
                            f"DATA_DIR: {folder} is in use by another Parley "
                            f"(process {holder}); stop it, name another folder, or set "
                            "REDIS_URL to share one Redis"
                        )
                    ]
                ) from error
            if not told:
                told = True
                log.warning(
                    "DATA_DIR is in use; waiting for its Parley to stop",
                    folder=str(folder),
                    longest_s=LOCK_TIMEOUT_S,
                )
            time.sleep(0.1)
    handle.truncate(0)
    handle.write(str(os.getpid()))
    handle.flush()
    return handle


def keep_key(folder: Path, key: str) -> None:
    """Keep a SECRET_KEY in the folder, on disk before anything is sealed with it.

    Raises SettingsError when there is one already, or it can't be written.
    """
    path = folder / KEY_FILE
    try:
        with open_privately(path, "x", encoding="ascii") as file:
            file.write(f"{key}\n")
            file.flush()
            os.fsync(file.fileno())
        place = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(place)
        finally:
            os.close(place)
    except FileExistsError as error:
        raise SettingsError(
            [f"SECRET_KEY: another start has just made one up ({path}); start again to use it"]
        ) from error
    except OSError as error:
        raise SettingsError(
            [f"SECRET_KEY: one can't be kept in {path} ({error.strerror}); set it yourself"]
        ) from error
