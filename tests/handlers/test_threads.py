"""The threads of plain `def` handlers."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from service.handlers.threads import DaemonThreads


def test_calls_run_side_by_side_up_to_the_most_and_the_others_after_them() -> None:
    """A busy worker has more threads than memory, or handlers wait for one another."""
    threads = DaemonThreads(2, "t")
    meeting = threading.Barrier(2)
    names = set()

    def meet() -> int:
        names.add(threading.current_thread().name)
        return meeting.wait(5)

    met = [threads.submit(meet) for _ in range(6)]
    assert sorted(each.result(5) for each in met) == [0, 0, 0, 1, 1, 1]
    assert len(names) == 2
    threads.shutdown()


def test_a_thread_is_used_again() -> None:
    """Each text costs a thread of its own."""
    threads = DaemonThreads(4, "t")
    assert len({threads.submit(threading.get_ident).result(5) for _ in range(10)}) <= 2
    threads.shutdown()


def test_what_a_call_raises_is_raised_to_who_asks() -> None:
    """A failure in a thread is lost, and who waits for it waits for ever."""
    threads = DaemonThreads(1, "t")
    with pytest.raises(ZeroDivisionError):
        threads.submit(lambda: 1 // 0).result(5)
    assert threads.submit(lambda: "next").result(5) == "next"
    threads.shutdown()


def test_a_process_ends_although_a_thread_hangs() -> None:
    """A stop waits for ever for one handler that does."""
    code = (
        "import time; from service.handlers.threads import DaemonThreads; "
        "DaemonThreads(1, 't').submit(time.sleep, 60); print('over')"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=20, check=True)
    assert ran.stdout == b"over\n"
