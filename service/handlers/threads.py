"""Threads for plain `def` handlers and `asyncio.to_thread`, which end with the process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from queue import SimpleQueue
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class DaemonThreads(ThreadPoolExecutor):
    """A pool of at most `most` threads.

    The standard library's waits for its threads when Python ends, for ever if one hangs. This one
    has its type alone, as event loops accept no other for `asyncio.to_thread`.
    """

    def __init__(self, most: int, name: str) -> None:  # Replaces all of it, so without super().
        self._most = most
        self._name = name
        self._lock = threading.Lock()
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._pool: list[threading.Thread] = []
        self._unended = 0

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run a function in one of the threads, as soon as one is free."""
        future: Future[T] = Future()
        with self._lock:
            self._unended += 1
            if len(self._pool) < min(self._unended, self._most):
                name = f"{self._name} {len(self._pool)}"
                thread = threading.Thread(target=self._run, name=name, daemon=True)
                self._pool.append(thread)
                thread.start()
        self._calls.put(partial(_carry_out, future, partial(fn, *args, **kwargs)))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002
        """Let the threads end once they are done with what was submitted."""
        for _ in self._pool:
            self._calls.put(None)
        if wait:
            for thread in self._pool:
                thread.join()

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            call()
            del call
            with self._lock:
                self._unended -= 1


def _carry_out(future: Future[T], call: Callable[[], T]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = call()
    except BaseException as error:  # noqa: BLE001  (the future's to raise)
        future.set_exception(error)
    else:
        future.set_result(result)
