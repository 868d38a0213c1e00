"""Long-lived tasks: none ends unnoticed, none keeps a stop waiting."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, MutableMapping
from typing import Any

import pytest
from structlog.testing import capture_logs

from service.core.pauses import Pauses
from service.errors import KeepsFailing
from service.workers.supervised import FAILURES, Tasks, end_all

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def log() -> Iterator[list[MutableMapping[str, Any]]]:
    """The log's events; a terminal's tracebacks take longer than the pauses here."""
    with capture_logs() as events:
        yield events


def quick() -> Pauses:
    """Pauses too short to wait for."""
    return Pauses(first_s=0.001, longest_s=0.002, healthy_s=60)


def failing(
    times: int, then: Callable[[], Awaitable[object]] | None = None
) -> Callable[[], Coroutine[Any, Any, None]]:
    """A task that fails so often, and then does something else."""
    left = [times]

    async def run() -> None:
        if left[0]:
            left[0] -= 1
            raise TypeError("why")
        if then is not None:
            await then()

    return run


async def test_a_failed_task_is_told_of_and_runs_again_until_it_returns(
    log: list[MutableMapping[str, Any]],
) -> None:
    """It would be gone without a word."""
    tasks = Tasks(pauses=quick)
    await tasks.keep("a part", failing(3))
    assert [(each["task"], each["failures"]) for each in log] == [("a part", n) for n in (1, 2, 3)]
    assert all(each["error"] == "TypeError: why" for each in log)
    assert not tasks.failed


async def test_what_keeps_failing_is_given_up_once() -> None:
    """It would fail for ever, and nobody outside would start the process anew."""
    reasons: list[KeepsFailing] = []
    tasks = Tasks(reasons.append, quick)
    await tasks.keep("a part", failing(1000))
    assert [str(each) for each in reasons] == [
        f"a part failed {FAILURES} times in a row: TypeError"
    ]


@pytest.mark.parametrize("end", [asyncio.CancelledError, GeneratorExit])
async def test_what_ends_by_a_cancellation_that_nobody_asked_of_it_runs_again(
    log: list[MutableMapping[str, Any]], end: type[BaseException]
) -> None:
    """The task would be gone, and neither the log nor /readyz would tell."""
    runs: list[int] = []

    async def run() -> None:
        runs.append(len(runs))
        if len(runs) == 1:
            raise end

    tasks = Tasks(pauses=quick)
    await asyncio.wait([tasks.start("a part", run)])
    assert runs == [0, 1]
    assert [each["error"] for each in log] == [end.__name__]


@pytest.mark.parametrize("pausing", [False, True], ids=["at work", "in a pause"])
async def test_what_is_cancelled_itself_ends(pausing: bool) -> None:
    """A stop would start anew what it ends."""
    tasks = Tasks(pauses=lambda: Pauses(first_s=30))
    kept = tasks.start("a part", failing(int(pausing), asyncio.Event().wait))
    await asyncio.sleep(0.01)
    kept.cancel()
    await asyncio.wait([kept], timeout=1)
    assert kept.cancelled()


async def test_one_of_many_is_never_given_up() -> None:
    """One text that breaks its partition would end all conversations."""
    reasons: list[KeepsFailing] = []
    await Tasks(reasons.append, quick).keep("a part", failing(3 * FAILURES), alone=True)
    assert not reasons


async def test_a_task_that_is_down_is_shown_with_what_happened_and_when_it_starts_again() -> None:
    """People would see that it is not ready, and not why."""
    tasks = Tasks(pauses=lambda: Pauses(first_s=30))
    stop = asyncio.Event()
    kept = tasks.start("a part", failing(1), stop=stop, answers=True)
    await asyncio.sleep(0.05)
    state = tasks.failed["a part"]
    assert state.answers
    assert not state.running
    said = str(state)
    assert said.startswith("failed once, the last: TypeError; starts again in ")
    assert 25 < float(said.split()[-2]) <= 30
    stop.set()
    await asyncio.wait_for(kept, 1)
    assert not tasks.failed


async def test_a_task_that_runs_again_is_shown_until_it_has_run_well() -> None:
    """What fails every minute would look as if it never did."""
    tasks = Tasks(pauses=lambda: Pauses(first_s=0.01, healthy_s=0.2))
    kept = tasks.start("a part", failing(1, asyncio.Event().wait))
    await asyncio.sleep(0.1)
    assert str(tasks.failed["a part"]) == "failed once, the last: TypeError; it runs again"
    await asyncio.sleep(0.2)
    assert not tasks.failed
    kept.cancel()


async def test_what_hangs_is_cut_off_and_what_does_not_obey_is_left(
    log: list[MutableMapping[str, Any]],
) -> None:
    """A stop would wait for it without end."""
    over = asyncio.Event()

    async def obeys() -> None:
        await asyncio.sleep(60)

    async def stubborn() -> None:
        while not over.is_set():
            try:
                await over.wait()
            except asyncio.CancelledError:
                continue

    tasks = [asyncio.create_task(each(), name=each.__name__) for each in (obeys, stubborn)]
    begun = time.monotonic()
    assert not await end_all(tasks, 0.1)
    assert time.monotonic() - begun < 2
    assert log[0]["cut_short"] == ["obeys"]
    assert log[0]["left"] == ["stubborn"]
    over.set()
    assert await end_all(tasks, 1)
