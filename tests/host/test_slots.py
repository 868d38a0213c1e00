"""What processes leave for each other, read while they write and after they were killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from service.host.slots import HALF_BYTES, Slots, as_argument, parse_slot, unnamed_file


@pytest.fixture
def file() -> Iterator[int]:
    """An unnamed file, closed in the end."""
    fd = unnamed_file()
    yield fd
    os.close(fd)


def test_each_process_finds_what_the_others_left_last(file: int) -> None:
    """A scrape would show one process of four."""
    one, two = (parse_slot(as_argument(file, own, 2)) for own in (0, 1))
    assert (one.count, one.own, two.own) == (2, 0, 1)
    assert one.read(1) is None
    for number in range(5):
        two.write(b"left %d" % number, 1000 + number)
    one.write(b"mine", 7)
    assert one.read(1) == (1004, b"left 4")
    assert two.read(0) == (7, b"mine")


def test_a_process_that_is_started_again_goes_on_where_its_predecessor_ended(file: int) -> None:
    """What it writes first would be older than what is there, and never be seen."""
    Slots(file, 0, 1).write(b"long, of the first", 1)
    Slots(file, 0, 1).write(b"second", 2)
    again = Slots(file, 0, 1)
    assert again.read(0) == (2, b"second")
    again.write(b"third", 3)
    assert again.read(0) == (3, b"third")


@pytest.mark.parametrize("cut", [0, 8, 23, 24, 28])
def test_a_half_written_half_leaves_what_was_there_before(file: int, cut: int) -> None:
    """A process killed in the middle of a write would take its counters with it."""
    slots = Slots(file, 0, 1)
    slots.write(b"first", 1)
    slots.write(b"second", 2)
    slots.write(b"third", 3)
    place = HALF_BYTES  # third: of an uneven number
    whole = os.pread(file, 64, place)
    os.pwrite(file, whole[:cut] + b"\xff" * (40 - cut), place)
    assert Slots(file, 0, 1).read(0) == (2, b"second")


def test_too_much_is_refused_before_anything_is_written(file: int) -> None:
    """It would run over into another process's slot."""
    slots = Slots(file, 0, 2)
    slots.write(b"x" * (HALF_BYTES - 24), 1)
    with pytest.raises(ValueError, match="more than a slot holds"):
        slots.write(b"x" * (HALF_BYTES - 23), 2)
    assert slots.read(1) is None


WRITER = """
import itertools, sys
from service.host.slots import parse_slot
slots = parse_slot(sys.argv[1])
print("up", flush=True)
for number in itertools.count(1):
    slots.write(b"%d " % number * 500, number)
"""


def test_a_reader_never_sees_a_mixture_of_a_busy_writer_and_a_killed_one_is_still_read(
    file: int,
) -> None:
    """Counters would jump to anything, once in a thousand scrapes."""
    command = [sys.executable, "-c", WRITER, as_argument(file, 0, 2)]
    with subprocess.Popen(command, pass_fds=[file], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"up\n"
        reader, last = Slots(file, 1, 2), 0
        for _ in range(3000):
            if (found := reader.read(0)) is not None:
                number, data = found
                assert data == b"%d " % number * 500
                assert number >= last
                last = number
        writer.send_signal(signal.SIGKILL)
    assert last > 0
    found = reader.read(0)
    assert found is not None
    assert found[0] >= last
