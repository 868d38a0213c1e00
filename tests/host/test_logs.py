"""The log: events in a line each, and nothing secret in them."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
import socket
import subprocess
import sys
import threading
import time
import unicodedata
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from functools import partial

import pytest

from service.host.log_lines import LibraryLimit
from service.host.logs import Lines

CODE = """
import logging, sys, structlog
from service.host.logs import set_up_logs
set_up_logs(sys.argv[1], "info")
log = structlog.get_logger()

def fail():
    secret = "a-secret-in-a-variable"
    raise ValueError("what went wrong")

try:
    fail()
except ValueError:
    log.exception("ours")
    logging.getLogger("library").exception("theirs")
log.debug("too quiet")
logging.getLogger("library").info("also too quiet")
"""


@pytest.mark.parametrize("form", ["console", "json", "auto"])
def test_a_traceback_shows_no_values(form: str) -> None:
    """A token in a local variable would be in every log collector."""
    ran = subprocess.run(
        [sys.executable, "-c", CODE, form], capture_output=True, text=True, check=True
    )
    assert "what went wrong" in ran.stderr
    assert ran.stderr.count("ours") >= 1
    assert ran.stderr.count("theirs") >= 1
    assert "a-secret-in-a-variable" not in ran.stderr.replace('secret = "a-secret', "")
    assert "too quiet" not in ran.stderr


def test_elsewhere_than_on_a_terminal_each_event_is_a_line_of_json() -> None:
    """Log collectors would split an event into many."""
    ran = subprocess.run(
        [sys.executable, "-c", CODE, "auto"], capture_output=True, text=True, check=True
    )
    events = [json.loads(line) for line in ran.stderr.splitlines()]
    assert [event["event"] for event in events] == ["ours", "theirs"]
    assert all(event["level"] == "error" for event in events)


HOSTILE = (
    "\x1b]0;owned\x07\x9b2J\u202egpj\u2028\r\nforged all is well\n2026-01-01 [info] forged\x7f"
)

HOSTILE_CODE = """
import logging, sys, structlog
from service.host.logs import set_up_logs
set_up_logs(sys.argv[1], "debug")
log = structlog.get_logger()
hostile = sys.argv[2]

class Odd:
    def __repr__(self):
        return hostile

log.warning("ours", error=hostile, short=chr(27) + "[2J", odd=Odd(), listed=[hostile])
log.warning(hostile)
logging.getLogger("library").warning("theirs %s", hostile)
try:
    raise ValueError(hostile)
except ValueError:
    log.exception("ours failed")
    logging.getLogger("library").exception("theirs failed")
"""


@pytest.mark.parametrize("form", ["console", "json"])
def test_a_line_of_the_log_is_only_read(form: str) -> None:
    """A stranger's words would forge events, or act on the terminal of whoever looks."""
    ran = subprocess.run(
        [sys.executable, "-c", HOSTILE_CODE, form, HOSTILE], capture_output=True, check=True
    )
    said = ran.stderr.decode()
    obeyed = {"Cc", "Cf", "Zl", "Zp"}
    acting = {letter for letter in said if unicodedata.category(letter) in obeyed} - {"\n"}
    assert not acting
    assert not re.search(r"(?m)^(forged|2026)", said)
    assert said.count(r"\u202egpj") >= 6
    events = [line for line in said.splitlines() if not line.startswith("    ")]
    assert len(events) == 5
    if form == "json":
        assert [json.loads(line)["event"] for line in events][1] == HOSTILE


FLOOD_CODE = """
import logging, sys, time
from service.host.logs import set_up_logs
set_up_logs(sys.argv[1], "info")
library = logging.getLogger("library")
for number in range(3000):
    library.warning("Invalid request number %d", number)
    if number < 500:
        library.error(f"{number} ever another line")
    if number == 2000:
        time.sleep(1.5)
library.warning("and something else")
if sys.argv[2] == "wait":
    time.sleep(2.5)
    library.warning("the end")
"""


@pytest.mark.parametrize("end", ["wait", "exit"])
def test_a_flood_of_a_librarys_lines_is_counted_instead_of_written(end: str) -> None:
    """Whoever can make uvicorn complain would fill the disk, 19,000 lines a second."""
    ran = subprocess.run(
        [sys.executable, "-c", FLOOD_CODE, "json", end], capture_output=True, text=True, check=True
    )
    events = [json.loads(line) for line in ran.stderr.splitlines()]
    told = [each for each in events if each["event"] == "a library's lines were left out"]
    written = [each for each in events if each["event"].startswith("Invalid request")]
    of_kind = [each for each in told if each["line"] == "Invalid request number %d"]
    assert 2 <= len(written) <= 12
    assert len(written) + sum(each["count"] for each in of_kind) == 3000
    assert {each["logger"] for each in told} <= {"library", "several"}
    # Kinds are bounded as well, and so are the lines that say what was left out.
    assert len(events) < 500
    rest = sum(each["count"] for each in told if each not in of_kind)
    assert sum("ever another" in each["event"] for each in events) + rest == 500
    assert sum(each["event"] == "and something else" for each in events) == 1
    if end == "wait":
        assert events[-1]["event"] == "the end"


SERVER_CODE = """
import asyncio, sys
from service.host.logs import set_up_logs
from service.host.listeners import AppServer, inherit, stop_event
from service.web.internal.app import internal_app
set_up_logs("json", "debug")

async def ready():
    return {}

async def run():
    stop = stop_event(stop_with_stdin=True)
    listener = inherit(int(sys.argv[1]))
    # uvicorn's own connections: ours refuse without its lines.
    server = AppServer(internal_app(ready), listener, stop_s=1, http="httptools")
    await server.run_until(stop)

asyncio.run(run())
"""


def test_malformed_requests_fill_no_log() -> None:
    """Anybody can send them, and uvicorn writes a line for each."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = subprocess.Popen(
            [sys.executable, "-c", SERVER_CODE, str(listener.fileno())],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=[listener.fileno()],
        )
        sent, began = 0, time.monotonic()
        while sent < 300 or time.monotonic() - began < 1:
            with socket.create_connection(listener.getsockname(), timeout=10) as connection:
                upgrade = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
                connection.sendall(b"\0\r\n\r\n" if sent % 2 else upgrade + b"Upgrade: a\r\n\r\n")
                assert connection.recv(1000)
            sent += 1
        _, said = server.communicate(timeout=20)
    events = [json.loads(line) for line in said.decode().splitlines()]
    took = time.monotonic() - began
    assert any("Invalid HTTP request" in each["event"] for each in events)
    assert len(events) <= 8 * (took + 2)
    counted = sum(each.get("count", 1) for each in events)
    assert counted >= sent


LIBRARY = """
import logging, structlog
from service.host.logs import set_up_logs
set_up_logs("json", "info")
structlog.get_logger().bind(bound=1).info("ours", a=1)
structlog.contextvars.bind_contextvars(context=2)
structlog.get_logger().warning("ours too", b="\\u2028\\ud800", c=object, d={1: 2})
logging.getLogger("library").warning("theirs %s", "said", extra={"more": 1})
try:
    1 / 0
except ZeroDivisionError:
    logging.getLogger("library").exception("theirs failed")
    structlog.get_logger().exception("ours failed")
"""


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_a_line_of_json_begins_with_time_level_and_event(encoding: str) -> None:
    """Whoever reads the log by eye or cuts it by column finds the three where they always are."""
    ran = subprocess.run(
        [sys.executable, "-c", LIBRARY],
        capture_output=True,
        encoding=encoding,
        env={"PYTHONIOENCODING": encoding, "PYTHONPATH": "."},
        check=True,
    )
    events = [json.loads(line) for line in ran.stderr.splitlines()]
    assert [list(event)[:3] for event in events] == [["timestamp", "level", "event"]] * 5
    assert [(event["level"], event["event"]) for event in events] == [
        ("info", "ours"),
        ("warning", "ours too"),
        ("warning", "theirs said"),
        ("error", "theirs failed"),
        ("error", "ours failed"),
    ]
    assert all(re.fullmatch(r"\S+T\S+\.\d{6}Z", event["timestamp"]) for event in events)


STOPPED = """
import asyncio, structlog
from service.host.logs import set_up_logs
set_up_logs("json", "info")
log = structlog.get_logger()

async def say(what):
    for number in range(100):
        log.info(what, number=number)

asyncio.run(say("first loop"))
asyncio.run(say("second loop"))
asyncio.new_event_loop().run_until_complete(say("stopped in its turn"))
"""


def test_what_was_logged_in_the_last_turn_before_a_stop_is_written() -> None:
    """The last lines before an end are those that are looked for."""
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", STOPPED], capture_output=True, text=True, check=True
    )
    events = [json.loads(line) for line in ran.stderr.splitlines()]
    said = ["first loop", "second loop", "stopped in its turn"]
    assert [(event["event"], event["number"]) for event in events] == [
        (what, number) for what in said for number in range(100)
    ]


class Pieces(io.StringIO):
    """A stream that remembers what it was given at once."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []

    def write(self, text: str) -> int:
        self.pieces.append(text)
        return super().write(text)


def test_lines_of_one_turn_leave_together_in_whole_pieces_that_a_pipe_keeps_apart() -> None:
    """Two processes on one pipe would cut each other's lines in half."""
    stream = Pieces()
    lines = Lines(stream)
    said = [f"{number} " + "•" * (number % 60) for number in range(200)] + ["x" * 5000, "last"]

    async def turn() -> None:
        for line in said:
            lines.info(line)
        assert not stream.pieces
        await asyncio.sleep(0)
        assert stream.getvalue() == "".join(f"{line}\n" for line in said)

    asyncio.run(turn())
    assert all(piece.endswith("\n") for piece in stream.pieces)
    sizes = [len(piece.encode()) for piece in stream.pieces if piece.count("\n") > 1]
    assert sizes
    assert max(sizes) <= 4096
    assert len(stream.pieces) < 10


def test_a_warning_leaves_at_once_behind_what_waits() -> None:
    """A loop that hangs right after a warning would never show it."""
    stream = Pieces()
    lines = Lines(stream)

    async def turn() -> None:
        lines.info("first")
        lines.warning("second")
        assert stream.getvalue() == "first\nsecond\n"

    asyncio.run(turn())


TOLD = """
import asyncio, sys, structlog
from service.host.logs import set_up_logs
tell = set_up_logs(sys.argv[1], "info")
log = structlog.get_logger()
facts = {"sid": "SM\\x1b1\\u202e", "sender": "+1•••0123", "route": "a b", "ms": 1.5, "attempt": 1}

async def say():
    for event in ("text handled", "sent\\nforged"):
        log.info(event, **facts)
        tell(event, **facts)

asyncio.run(say())
tell("without a loop")
log.info("without a loop")
"""


@pytest.mark.parametrize("form", ["console", "json"])
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_a_line_that_was_told_looks_as_any_other(form: str, encoding: str) -> None:
    """Whoever reads or cuts the log would need two ways for one kind of line."""
    ran = subprocess.run(
        [sys.executable, "-c", TOLD, form],
        capture_output=True,
        encoding=encoding,
        env={"PYTHONIOENCODING": f"{encoding}:backslashreplace", "PYTHONPATH": "."},
        check=True,
    )
    clock = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z" if form == "json" else r"\d\d:\d\d:\d\d"
    lines = [re.sub(clock, "TIME", line) for line in ran.stderr.splitlines()]
    assert len(lines) == 6
    assert lines[::2] == lines[1::2]
    assert all(line.count("TIME") == 1 for line in lines)


BUSY = """
import asyncio, time
from service.host.logs import set_up_logs
tell = set_up_logs("json", "info")

async def say():
    for number in range(1000):
        tell("text handled", number=number, at=time.time())
        if number % 7 == 0:
            await asyncio.sleep(0.001)

asyncio.run(say())
asyncio.new_event_loop().run_until_complete(say())
"""


def test_told_lines_bear_the_time_of_their_event_and_none_is_lost_at_an_end() -> None:
    """Times would be those of a batch, and the last texts before a stop would be missing."""
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", BUSY], capture_output=True, text=True, check=True
    )
    events = [json.loads(line) for line in ran.stderr.splitlines()]
    assert [event["number"] for event in events] == [*range(1000), *range(1000)]
    times = [datetime.fromisoformat(event["timestamp"]).timestamp() for event in events]
    happened = [event["at"] for event in events]
    microsecond = 1e-6
    assert all(time + microsecond >= at for time, at in zip(times, happened, strict=True))
    assert all(time <= later for time, later in zip(times, happened[1:], strict=False))


def test_a_level_above_info_silences_told_lines() -> None:
    """LOG_LEVEL=warning would leave a line for each text."""
    code = "from service.host.logs import set_up_logs; print(set_up_logs('json', 'warning'))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "None\n"


def test_told_lines_leave_together_soon_and_in_order_with_all_others() -> None:
    """A line a write costs a busy service a tenth of its texts; one that waits long is no use."""
    stream = Pieces()
    lines = Lines(stream)
    made: list[int] = []

    def line(number: int) -> str:
        made.append(number)
        return f"told {number}"

    def told(*numbers: int) -> None:
        for number in numbers:
            lines.soon(partial(line, number))

    async def turns() -> None:
        told(1, 2)
        await asyncio.sleep(0)
        told(3)
        await asyncio.sleep(0.005)
        assert made == []
        began = time.monotonic()
        while not stream.pieces:
            await asyncio.sleep(0.001)
            assert time.monotonic() - began < 5
        assert stream.pieces == ["told 1\ntold 2\ntold 3\n"]
        # A warning is not overtaken, and overtakes nothing that is there.
        told(4)
        lines.warning("warned")
        assert stream.pieces.pop() == "told 4\nwarned\n"
        told(5)
        lines.info("said")
        told(6)
        await asyncio.sleep(0)
        assert stream.pieces.pop() == "told 5\nsaid\ntold 6\n"
        # Many need not wait: they leave with their turn.
        told(*range(100, 163))
        await asyncio.sleep(0)
        assert len(made) == 6
        told(163)
        assert len(made) == 6
        await asyncio.sleep(0)
        assert made[6:] == list(range(100, 164))

    asyncio.run(turns())


UNCAUGHT_CODE = """
import asyncio, gc, logging, sys, threading, warnings
from service.host.logs import set_up_logs
set_up_logs(sys.argv[1], "info")

def fail():
    raise ValueError("what went\\nwrong")

class Odd:
    def __del__(self):
        fail()

async def failing():
    fail()

async def forget():
    task = asyncio.get_running_loop().create_task(failing(), name="forgotten")
    await asyncio.sleep(0)
    del task
    gc.collect()
    asyncio.get_running_loop().call_soon(fail)
    await asyncio.sleep(0.01)

warnings.warn("a warning of\\na library")
del Odd().__dict__
gc.collect()
thread = threading.Thread(target=fail, name="thready")
thread.start()
thread.join()
asyncio.run(forget())
logging.getLogger("uvicorn.error").error("Exception in ASGI application\\n", exc_info=OSError("x"))
fail()
"""


@pytest.mark.parametrize("form", ["console", "json"])
def test_what_nobody_caught_is_a_line_like_any_other(form: str) -> None:
    """A traceback among lines of JSON is dozens of events to a log collector, none of them ours."""
    ran = subprocess.run(
        [sys.executable, "-c", UNCAUGHT_CODE, form], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 1
    lines = [line for line in ran.stderr.splitlines() if not line.startswith("    ")]
    expected = [
        "a warning of",
        "an error could not be raised",
        "a thread ended with an error",
        "Task exception was never retrieved",
        "Exception in callback fail",
        "Exception in ASGI application",
        "an error that nobody caught ends the process",
    ]
    assert len(lines) == len(expected), ran.stderr
    for line, said in zip(lines, expected, strict=True):
        event = json.loads(line)["event"] if form == "json" else line
        assert said in event
    ours = [lines[place] for place in (1, 2, 6)]
    assert all("ValueError" in line for line in ours)
    assert ["ValueError: what went wrong" in line for line in ours] == [False, False, True]
    assert "what went" not in ours[0] + ours[1], "a handler's, perhaps, and somebody's text"
    if form == "json":
        assert all(json.loads(line)["at"] == "<string>:7 in fail" for line in ours)
        assert all(json.loads(line)["level"] in {"error", "critical"} for line in ours)
        assert len(ran.stderr.splitlines()) == len(lines)


def within(seconds: float, call: Callable[[], object]) -> None:
    """Fail if a call does not come back: it waits for itself."""
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), "it waits for itself"


def test_a_line_that_is_logged_while_another_is_written_leaves_behind_it() -> None:
    """A finalizer that logs, on the same thread, stops the service for ever."""

    class Logging(Pieces):
        def write(self, text: str) -> int:
            if not self.pieces:
                lines.warning("nested")
            return super().write(text)

    def made() -> str:
        lines.warning("while it was made")
        return "late"

    async def soon() -> None:
        lines.soon(made)
        lines.warning("behind it")

    stream = Logging()
    lines = Lines(stream)
    within(5, partial(lines.warning, "first"))
    within(5, lambda: asyncio.run(soon()))
    written = stream.getvalue().splitlines()
    assert sorted(written) == ["behind it", "first", "late", "nested", "while it was made"]
    assert written.index("late") < written.index("behind it")


def test_a_log_may_be_written_to_while_it_takes_a_line_in() -> None:
    """The collector of garbage runs a finalizer that logs while a line is taken in."""

    class Waiting(list[object]):
        def append(self, line: object) -> None:
            super().append(line)
            if line == "first":
                lines.warning("nested")

    lines = Lines(stream := Pieces())
    lines._waiting = Waiting()  # type: ignore[assignment]
    within(5, partial(lines.warning, "first"))
    assert stream.getvalue() == "first\nnested\n"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("closed")])
def test_a_log_that_cannot_be_written_hurts_nobody_and_goes_on_later(
    error: OSError | ValueError,
) -> None:
    """A full disk, or a reader of the log that went away, ends the service."""

    class Full(Pieces):
        full = True

        def write(self, text: str) -> int:
            if self.full:
                raise error
            return super().write(text)

    stream = Full()
    lines = Lines(stream)
    lines.warning("lost")
    asyncio.run(said_in_a_loop(lines))
    stream.full = False
    lines.warning("there again")
    assert stream.getvalue() == "there again\n"


async def said_in_a_loop(lines: Lines) -> None:
    """Say a line in each way; none may raise, not in the loop's callbacks either."""
    wrong: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, found: wrong.append(found))
    lines.info("lost")
    lines.soon(lambda: "lost")
    await asyncio.sleep(0.05)
    assert wrong == []


def test_the_limit_of_libraries_lines_may_be_asked_while_it_is_asked() -> None:
    """A library's finalizer that logs in the middle of another line stops the service for ever."""

    class Passed(Counter[tuple[str, str]]):
        def __setitem__(self, kind: tuple[str, str], count: int) -> None:
            super().__setitem__(kind, count)
            if not asked:
                asked.append(True)
                asked.append(limit.filter(record))

    asked: list[bool] = []
    limit = LibraryLimit()
    record = logging.LogRecord("library", logging.WARNING, "", 0, "a line", (), None)
    limit._passed = Passed()
    within(5, lambda: asked.append(limit.filter(record)))
    assert asked == [True, True, True]
