"""The handlers' event loop: apart from the engine's, and replaced while somebody blocks it."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import uvloop
from structlog.testing import capture_logs

from service import Message, Reply
from service.errors import HandlerTimedOut, LeaseLost
from service.handlers.loop import HandlersLoop
from service.handlers.router import Choice
from service.handlers.running import run_handler
from tests.handlers.test_running import TEXT

pytestmark = pytest.mark.anyio

BLOCKED = "a handler blocks the handlers' event loop"


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
async def place(request: pytest.FixtureRequest) -> AsyncIterator[HandlersLoop]:
    """Where handlers run, on either kind of loop."""
    with ThreadPoolExecutor(4) as executor:
        async with HandlersLoop(executor, request.param) as place:
            yield place


def begin(
    handler: Callable[..., Any], place: HandlersLoop, timeout_s: float = 10, **more: Any
) -> asyncio.Task[tuple[Reply, ...]]:
    """Begin to run a handler on a text."""
    choice = Choice(handler.__name__, handler, {})
    return asyncio.create_task(run_handler(choice, TEXT, place, timeout_s, **more))


async def until(event: threading.Event) -> None:
    """Wait for what another thread does."""
    while not event.is_set():
        await asyncio.sleep(0.005)


async def quick(message: Message) -> str:
    """Answer at once."""
    return "quick"


async def which(message: Message) -> str:
    """Name the loop."""
    return str(id(asyncio.get_running_loop()))


class Blocking:
    """A handler that blocks its loop until it is let go."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()
        self.runs = 0

    async def __call__(self, message: Message) -> str:
        self.runs += 1
        self.begun.set()
        self.go.wait(20)  # here
        return "late"

    @property
    def handler(self) -> Callable[..., Any]:
        async def blocking(message: Message) -> str:
            return await self(message)

        return blocking


def line_of(mark: str) -> str:
    """Find a marked line of this file."""
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    return f"{__file__}:{next(n for n, line in enumerate(lines, 1) if line.endswith(mark))}"


async def test_the_engine_and_other_handlers_go_on_while_one_blocks_its_loop(
    place: HandlersLoop,
) -> None:
    """Two phones wait for two minutes, and every lease is lost, for one time.sleep."""
    culprit, turns = Blocking(), 0
    with capture_logs() as lines:
        blocked = begin(culprit.handler, place)
        behind = begin(quick, place)
        await until(culprit.begun)
        began = time.monotonic()
        while not behind.done():
            await asyncio.sleep(0.01)
            turns += 1
        assert time.monotonic() - began < 1
        assert turns > 5, "the engine's loop turns"
        (line,) = [line for line in lines if line["event"] == BLOCKED]
        assert (line["route"], line["at"]) == ("blocking", line_of("# here"))
        assert "asyncio.to_thread" in line["advice"]
        began = time.monotonic()
        assert await begin(quick, place) == (Reply("quick"),)
        assert time.monotonic() - began < 0.3, "known to stand still, it is not waited for"
        assert not blocked.done()
        culprit.go.set()
        assert await blocked == (Reply("late"),)
        await asyncio.sleep(0.3)
    assert [line["event"] for line in lines].count(BLOCKED) == 1
    assert "the handlers' event loop turns again" in [line["event"] for line in lines]


async def test_a_loop_that_turns_again_is_the_handlers_again(place: HandlersLoop) -> None:
    """What handlers keep between texts, a pool or a session, belongs to a loop and is lost."""
    first = await begin(which, place)
    culprit = Blocking()
    blocked = begin(culprit.handler, place)
    await until(culprit.begun)
    assert await begin(which, place) != first
    culprit.go.set()
    await blocked
    await asyncio.sleep(0.3)
    assert await begin(which, place) == first


async def test_a_blocked_handler_that_had_its_time_is_retried_only_when_it_has_ended(
    place: HandlersLoop,
) -> None:
    """Its retry would run beside it: two handlers of one conversation at once."""
    culprit = Blocking()
    blocked = begin(culprit.handler, place, 0.8)
    await until(culprit.begun)
    await asyncio.sleep(1.5)
    assert not blocked.done()
    culprit.go.set()
    with pytest.raises(
        HandlerTimedOut, match=r"longer than 0\.8 s and blocked the event loop"
    ) as e:
        await blocked
    assert line_of("# here") in str(e.value)
    assert culprit.runs == 1


async def test_a_handler_beside_a_short_block_goes_on_where_it_was(place: HandlersLoop) -> None:
    """Its side effects happen twice, because another one was slow."""
    steps: list[str] = []

    async def beside(message: Message) -> str:
        steps.append("began")
        await asyncio.sleep(0.05)
        steps.append("went on")
        return "beside"

    culprit = Blocking()
    waiting = begin(beside, place)
    await asyncio.sleep(0.02)
    blocked = begin(culprit.handler, place)
    await until(culprit.begun)
    await asyncio.sleep(0.8)
    culprit.go.set()
    assert await waiting == (Reply("beside"),)
    await blocked
    assert steps == ["began", "went on"]


@pytest.mark.parametrize("whose", ["the culprit's time", "its own time"])
@pytest.mark.parametrize("waits", ["for a time", "for its turn"])
async def test_a_handler_beside_a_long_block_starts_anew_and_its_first_start_never_goes_on(
    place: HandlersLoop, whose: str, waits: str
) -> None:
    """It is charged for another's mistake; or two of one conversation run at once."""
    steps: list[str] = []

    async def beside(message: Message) -> str:
        steps.append("began")
        try:
            await asyncio.sleep(0.5 if waits == "for a time" else 0)
            while waits == "for its turn" and not culprit.begun.is_set():
                await asyncio.sleep(0)
            child = asyncio.create_task(asyncio.sleep(0.01))
            child.add_done_callback(lambda _: steps.append("went on"))
            await child
        except asyncio.CancelledError:
            steps.append("cancelled")
            raise
        return "beside"

    culprit = Blocking()
    waiting = begin(beside, place, 30 if whose == "the culprit's time" else 1)
    await asyncio.sleep(0.05)
    blocked = begin(culprit.handler, place, 1 if whose == "the culprit's time" else 30)
    await until(culprit.begun)
    assert await waiting == (Reply("beside"),)
    assert steps == ["began", "began", "went on"]
    assert not blocked.done()
    culprit.go.set()
    await asyncio.gather(blocked, return_exceptions=True)
    await asyncio.sleep(0.2)
    assert steps == ["began", "began", "went on", "cancelled"]


async def test_tasks_that_a_handler_began_count_as_its_own(place: HandlersLoop) -> None:
    """A handler whose gather() blocks would be started a second time beside itself."""
    begun, go, runs = threading.Event(), threading.Event(), []

    async def part() -> None:
        begun.set()
        go.wait(20)

    async def gathers(message: Message) -> str:
        runs.append(1)
        await asyncio.gather(part(), asyncio.sleep(0))
        return "done"

    with capture_logs() as lines:
        work = begin(gathers, place, 0.8)
        await until(begun)
        await asyncio.sleep(1.5)
        assert not work.done()
        go.set()
        with pytest.raises(HandlerTimedOut):
            await work
    assert len(runs) == 1
    assert [line["route"] for line in lines if line["event"] == BLOCKED] == ["gathers"]


async def test_tasks_that_outlive_their_handler_go_on(place: HandlersLoop) -> None:
    """A handler that begins something in the background finds it gone."""
    ended = threading.Event()

    async def later() -> None:
        await asyncio.sleep(0.1)
        ended.set()

    kept = []

    async def handler(message: Message) -> str:
        kept.append(asyncio.create_task(later()))
        async with asyncio.timeout(5):
            return str(asyncio.current_task() is not None)

    assert await begin(handler, place) == (Reply("True"),)
    async with asyncio.timeout(5):
        await until(ended)


async def test_a_task_that_would_end_the_loop_ends_itself_alone(place: HandlersLoop) -> None:
    """sys.exit() in a background task leaves every handler hanging for ever."""
    kept = []

    async def leave() -> None:
        raise SystemExit

    async def handler(message: Message) -> str:
        kept.append(asyncio.create_task(leave()))
        return "still here"

    with capture_logs() as lines:
        assert await begin(handler, place) == (Reply("still here"),)
        assert await begin(quick, place) == (Reply("quick"),)
        await asyncio.sleep(0.05)
    assert [line["log_level"] for line in lines] == ["error"]
    kept[0].exception()


async def test_after_a_lost_lease_a_handler_takes_no_further_step(place: HandlersLoop) -> None:
    """A worker that was frozen goes on with a message that another has begun."""
    steps, lost, cleaned = [], threading.Event(), threading.Event()

    async def handler(message: Message) -> None:
        try:
            while True:
                steps.append(lost.is_set())
                await asyncio.sleep(0.01)
        finally:
            await asyncio.sleep(0.01)
            cleaned.set()

    work = begin(handler, place, expired=lost.is_set)
    while len(steps) < 3:
        await asyncio.sleep(0.005)
    lost.set()
    with pytest.raises(LeaseLost):
        await work
    assert cleaned.is_set(), "it may still tidy up"
    assert sum(steps) <= 1, "a step that was under way, at most"


@pytest.mark.parametrize("kind", ["def", "async def"])
async def test_a_stop_need_not_wait_for_what_cannot_be_ended(
    place: HandlersLoop, kind: str
) -> None:
    """One blocked thread holds up a stop until the platform kills the process."""
    culprit = Blocking()

    def plain(message: Message) -> None:
        culprit.begun.set()
        culprit.go.wait(20)

    work = begin(culprit.handler if kind == "async def" else plain, place)
    await until(culprit.begun)
    work.cancel()
    await asyncio.sleep(0.1)
    assert not work.done(), "until it is let go"
    place.let_go_of_all()
    with pytest.raises(asyncio.CancelledError):
        await work
    culprit.go.set()


@pytest.mark.parametrize("seen", [True, False], ids=["once it is seen", "before it is seen"])
async def test_a_stop_ends_a_handler_that_waits_beside_a_blocked_one(
    place: HandlersLoop, seen: bool
) -> None:
    """A partition could not be handed over while somebody else's handler blocks."""

    async def beside(message: Message) -> None:
        await asyncio.sleep(30)

    culprit = Blocking()
    waiting = begin(beside, place)
    await asyncio.sleep(0.05)
    blocked = begin(culprit.handler, place)
    await until(culprit.begun)
    await asyncio.sleep(0.7 if seen else 0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(asyncio.shield(waiting), 2)
    assert not blocked.done()
    culprit.go.set()
    await blocked


async def test_a_dropped_handler_that_swallows_its_cancellation_does_not_run_on(
    place: HandlersLoop,
) -> None:
    """Two handlers of one conversation run at once, and both do what they do elsewhere."""
    steps: list[str] = []

    async def later() -> None:
        steps.append("later")

    async def stubborn(message: Message) -> str:
        steps.append("began")
        for _ in range(1_000):
            try:
                await asyncio.sleep(0.1)
                break
            except asyncio.CancelledError:
                kept.append(asyncio.create_task(later()))
        try:
            await asyncio.sleep(0)
            steps.append("went on")
        finally:
            await asyncio.sleep(0)
            steps.append("tidied up")
        return "stubborn"

    kept: list[asyncio.Task[None]] = []
    culprit = Blocking()
    waiting = begin(stubborn, place, 30)
    await asyncio.sleep(0.05)
    blocked = begin(culprit.handler, place, 0.7)
    await until(culprit.begun)
    assert await waiting == (Reply("stubborn"),)
    assert steps == ["began", "began", "went on", "tidied up"]
    culprit.go.set()
    await asyncio.gather(blocked, return_exceptions=True)
    await asyncio.sleep(0.3)
    assert steps == ["began", "began", "went on", "tidied up"]


async def test_a_decorated_handler_beside_a_long_block_starts_anew_too(place: HandlersLoop) -> None:
    """A text is charged an attempt for what another's handler did."""
    runs = []

    async def beside(message: Message) -> str:
        runs.append(1)
        await asyncio.sleep(0.1)
        return "beside"

    def decorated(message: Message) -> Any:
        return beside(message)

    culprit = Blocking()
    waiting = begin(decorated, place, 30)
    while not runs:
        await asyncio.sleep(0.005)
    blocked = begin(culprit.handler, place, 0.7)
    await until(culprit.begun)
    assert await waiting == (Reply("beside"),)
    assert len(runs) == 2
    culprit.go.set()
    await asyncio.gather(blocked, return_exceptions=True)


async def test_what_is_cut_as_the_lease_ran_out_is_no_failure_although_it_was_renewed(
    place: HandlersLoop,
) -> None:
    """A text is charged, put off and told as failed for a renewal that was late."""
    looks = []

    def expired() -> bool:
        looks.append(1)
        return len(looks) == 2

    with pytest.raises(LeaseLost):
        await begin(which, place, expired=expired)
    assert len(looks) == 2


async def test_at_the_limit_of_loops_one_more_text_waits_in_peace(
    place: HandlersLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine of a process with blocked handlers takes a whole core, and does nothing else."""
    monkeypatch.setattr("service.handlers.loop.LOOPS_LIMIT", 1)
    starts: list[int] = []
    start = place.start

    def counted(work: Any) -> None:
        starts.append(1)
        start(work)

    monkeypatch.setattr(place, "start", counted)
    culprit = Blocking()
    blocked = begin(culprit.handler, place, 30)
    await until(culprit.begun)
    waiting = begin(quick, place, 0.2)
    await asyncio.sleep(1)
    assert not waiting.done()
    assert len(starts) < 10, "asked once in its time"
    culprit.go.set()
    assert await waiting == (Reply("quick"),)
    await blocked


async def test_errors_in_the_background_of_handlers_are_told_without_what_they_say(
    place: HandlersLoop, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody knows whose text it is that a forgotten task quotes, and all of it is logged."""

    async def forgotten() -> None:
        raise KeyError("somebody's text")  # forgotten

    def called_back(text: str) -> None:
        raise ValueError(text)

    async def ending() -> None:
        raise SystemExit("somebody's text")

    async def handler(message: Message) -> None:
        loop = asyncio.get_running_loop()
        loop.create_task(forgotten())  # noqa: RUF006  (as an author forgets it)
        loop.create_task(ending())  # noqa: RUF006
        loop.call_soon(called_back, "somebody's text")
        await asyncio.sleep(0.01)
        gc.collect()

    with capture_logs() as lines:
        await begin(handler, place)
        await asyncio.sleep(0.05)
    told = [line for line in lines if line["log_level"] == "error"]
    assert {"KeyError", "ValueError", "SystemExit"} <= {line["error"] for line in told}
    assert f"{line_of('# forgotten')} in forgotten" in [line.get("at") for line in told]
    assert "somebody" not in f"{lines}{caplog.text}"


HANGS = """
import asyncio, sys, time, uvloop
from service.handlers.loop import HandlersLoop
from service.handlers.threads import DaemonThreads
from service.handlers.router import Choice
from service.handlers.running import run_handler

async def handler(message):
    await asyncio.to_thread(time.sleep, 60)

async def main():
    new = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}[sys.argv[1]]
    async with HandlersLoop(DaemonThreads(1, "t"), new) as place:
        work = asyncio.create_task(run_handler(Choice("x", handler, {}), None, place, 30))
        await asyncio.sleep(0.1)
        work.cancel()
        await asyncio.wait([work])
    print("over")

asyncio.run(main())
"""


@pytest.mark.parametrize("kind", ["asyncio", "uvloop"])
def test_a_process_ends_although_a_thread_of_a_handlers_own_hangs(kind: str) -> None:
    """A stop is waited for by the interpreter until the process ends by force."""
    ran = subprocess.run(
        [sys.executable, "-c", HANGS, kind], capture_output=True, timeout=20, check=True
    )
    assert (ran.stdout, ran.stderr) == (b"over\n", b"")
