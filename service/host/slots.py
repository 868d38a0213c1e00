"""What the processes of one supervisor leave for each other: a slot for each, in one unnamed file.

The supervisor makes the file and its processes inherit it, as they do the listeners. It has no name
and no folder: nobody else can open it, and it is gone with the last process, however that ends. A
process that is started again writes where its predecessor did and finds what that one wrote last.

A slot has two halves, written in turn, each with its number and a checksum: whoever is killed while
writing, or read meanwhile, has left the other half whole.
"""

from __future__ import annotations

import os
import struct
import tempfile
import zlib

HALF_BYTES = 32 * 1024
"""Room for what a process leaves. Its figures take 4 kB; the file is sparse."""

HEAD = struct.Struct("<QQII")
"""Of a half: its number, when it was written (ns of the monotonic clock, which all processes of a
machine share), length and checksum of what follows."""

READ_TRIES = 5
"""A writer is done with a half in microseconds, and seconds pass before the next."""


class Slots:
    """The slots of all processes.

    fd: of the file. own: number of this process's slot, from 0. count: how many there are.
    """

    def __init__(self, fd: int, own: int, count: int) -> None:
        self.own = own
        self.count = count
        self._fd = fd
        self._number = max((number for number, _, _ in self._halves(own)), default=0)

    def write(self, data: bytes, now_ns: int) -> None:
        """Leave `data` in our slot, in the place of what was there.

        now_ns: time.monotonic_ns(). Raises ValueError when it is too long.
        """
        if HEAD.size + len(data) > HALF_BYTES:
            raise ValueError(f"{len(data)} bytes are more than a slot holds")
        self._number += 1
        checked = struct.pack("<QQ", self._number, now_ns) + data
        head = HEAD.pack(self._number, now_ns, len(data), zlib.crc32(checked))
        place = (2 * self.own + self._number % 2) * HALF_BYTES
        os.pwrite(self._fd, head + data, place)

    def read(self, slot: int) -> tuple[int, bytes] | None:
        """Return what was last left in a slot, and when; None while nothing was."""
        for _ in range(READ_TRIES):
            if halves := self._halves(slot):
                _, at_ns, data = max(halves)
                return at_ns, data
        return None

    def _halves(self, slot: int) -> list[tuple[int, int, bytes]]:
        """Read the halves that are whole: number, time, data."""
        found = []
        for half in (0, 1):
            raw = os.pread(self._fd, HALF_BYTES, (2 * slot + half) * HALF_BYTES)
            if len(raw) < HEAD.size:
                continue
            number, at_ns, length, checksum = HEAD.unpack_from(raw)
            data = raw[HEAD.size : HEAD.size + length]
            checked = struct.pack("<QQ", number, at_ns) + data
            if number and len(data) == length and zlib.crc32(checked) == checksum:
                found.append((number, at_ns, data))
        return found


def parse_slot(text: str) -> Slots:
    """Open the slots that `as_argument` names. Raises ValueError for anything else."""
    fd, own, count = map(int, text.split(":"))
    return Slots(fd, own, count)


def as_argument(fd: int, own: int, count: int) -> str:
    """Name the slots of an inherited file for a process's command line."""
    return f"{fd}:{own}:{count}"


def unnamed_file() -> int:
    """Make the file that slots are in; returns its descriptor, which is not inherited unasked."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("parley-slots")
    with tempfile.TemporaryFile() as file:  # macOS
        return os.dup(file.fileno())
