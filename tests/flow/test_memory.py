"""A worker's memory with far more waiting than it can be at work on."""

from __future__ import annotations

import re
import socket
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from urllib.parse import parse_qsl

import psutil
import pytest

from service.core import entries
from service.core.partitions import partition_of
from service.model import Conversation, Message, MessageSid, Partition
from service.store.keys import PartitionKeys
from tests.flow.conftest import OUR_NUMBER, until
from tests.flow.fleet import Fleet

pytestmark = [
    pytest.mark.skipif(
        sys.platform != "linux", reason="the most a process ever took is told by Linux alone"
    ),
    pytest.mark.timeout(1_800),
]

COUNT = 16
MIB = 1024 * 1024
PAGE = 2_000
SAMPLE = Path(__file__).parents[1] / "samples/twilio/inbound_sms.form"

MOST = 150 * MIB
"""What a worker may take, whatever waits."""

HANDLERS = """
import asyncio
from pathlib import Path
from service import Router

router = Router()
FOLDER = Path(__file__).parent
HANDLED = (FOLDER / "handled").open("a", buffering=1)

@router.default
async def note(message):
    kind = message.body.partition(" ")[0]
    while kind == "wait" and not (FOLDER / "let-go").exists():
        await asyncio.sleep(0.2)
    if kind == "fail" and not (FOLDER / "let-go").exists():
        raise RuntimeError("not yet")
    HANDLED.write(f"{message.from_} {message.sid}\\n")
    return "here you are" if kind == "answer" else None
"""

FILL = """
for i = 3, #ARGV do
  local id = redis.call('XADD', KEYS[1], '*', 'v', ARGV[1], 'k', 'm', 'd', ARGV[i])
  if ARGV[2] ~= '' then
    redis.call('HSET', KEYS[2], id, ARGV[2])
    redis.call('HSET', KEYS[3], id, 1)
  end
end
"""
"""Fills one inbox: ARGV is the version, the note of a failed attempt or "", and the texts."""

Text = tuple[str, str, str]
"""The number it is from, its sid, what it says."""


class Waiting(Fleet):
    """A fleet whose inboxes are filled behind its back, in the form that accepting leaves."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        (folder / "handlers.py").write_text(HANDLERS)
        self.settings |= {"HANDLERS": str(folder / "handlers.py"), "HANDLER_TIMEOUT_S": "3600"}
        # What is put off for longer than the longest wait is taken for a clock gone wrong.
        self.settings |= {"LOG_TEXTS": "false", "LEASE_TTL_S": "10", "RETRY_MAX_S": "3600"}

    def fill(self, texts: Iterator[Text], *, due_ms: int | None = None) -> None:
        """Accept texts. due_ms: they failed once, and are put off until then."""
        form = dict(parse_qsl(SAMPLE.read_text()))
        model = Message(
            sid=MessageSid("<sid>"),
            from_="<number>",
            to=OUR_NUMBER,
            body="<body>",
            media=(),
            account=form["AccountSid"],
            received_at=datetime.now(UTC),
            raw=form | {"From": "<number>", "MessageSid": "<sid>", "Body": "<body>"},
        )
        data = entries.encode(model)
        note = "" if due_ms is None else f"{due_ms} it raised: not yet"
        with self.look() as client:
            while page := list(islice(texts, PAGE)):
                found: dict[Partition, list[bytes]] = defaultdict(list)
                for number, sid, body in page:
                    home = partition_of(Conversation(OUR_NUMBER, number), COUNT)
                    entry = data.replace(b"<number>", number.encode())
                    entry = entry.replace(b"<sid>", sid.encode())
                    found[home].append(entry.replace(b"<body>", body.encode()))
                for home, filled in found.items():
                    keys = PartitionKeys(home)
                    names = (keys.inbox, keys.inbox_later, keys.inbox_tries)
                    client.eval(FILL, 3, *names, entries.VERSION, note, *filled)

    def waiting(self, queue: Callable[[PartitionKeys], str]) -> list[int]:
        """How many entries each partition's queue has."""
        with self.look() as client:
            return [client.xlen(queue(PartitionKeys(Partition(p)))) for p in range(COUNT)]

    def handled(self) -> dict[str, list[str]]:
        """The sids handled of each number, in order."""
        found: dict[str, list[str]] = defaultdict(list)
        path = self.folder / "handled"
        for line in path.read_text().splitlines() if path.exists() else ():
            number, sid = line.split()
            found[number].append(sid)
        return found

    def settles(self, number: str, within_s: float) -> bool:
        """Whether a text from this number, accepted now, is handled in that time."""
        self.fill(iter([(number, "SMfresh", "fresh")]))
        until(lambda: self.handled()[number] == ["SMfresh"], within_s)
        return True

    def let_go(self) -> None:
        """Let every handler end well."""
        (self.folder / "let-go").touch()

    def empty(self) -> bool:
        """Whether every inbox is."""
        return not any(self.waiting(lambda keys: keys.inbox))


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[Waiting]:
    """A fleet without a worker yet."""
    made = Waiting(tmp_path)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def count(request: pytest.FixtureRequest) -> int:
    """Texts that wait."""
    return int(request.config.getoption("--waiting"))


@pytest.fixture
def most(count: int) -> int:
    """The most memory beside them, bytes; what is fixed takes some 110 MiB."""
    return 130 * MIB if count <= 30_000 else MOST


def each_of_another(count: int, body: str) -> Iterator[Text]:
    """One text from each of many numbers."""
    return ((f"+1500{n:07}", f"SM{n}", f"{body} {n}") for n in range(count))


def peak(pid: int) -> int:
    """The most bytes a process ever held."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024


def steady(pid: int, most: int, seconds: float = 6) -> None:
    """Watch a worker until it has taken in all that it will; see that it stays small."""
    quiet = 0.0
    process, began = psutil.Process(pid), time.monotonic()
    while quiet < 3 or time.monotonic() - began < seconds:
        used = process.cpu_percent(0.5)
        quiet = quiet + 0.5 if used < 40 else 0
        assert peak(pid) < most, f"{peak(pid) / MIB:.0f} MiB"
    print(f"steady {process.memory_info().rss / MIB:.1f} MiB, peak {peak(pid) / MIB:.1f} MiB")  # noqa: T201


def drain(waiting: Waiting, pid: int, count: int, most: int) -> None:
    """See everything settled, and how quickly."""
    began = time.monotonic()
    until(waiting.empty, within_s=60 + count / 400, every_s=0.5)
    took_s = time.monotonic() - began
    print(f"{count / took_s:.0f} a second, peak {peak(pid) / MIB:.1f} MiB")  # noqa: T201
    assert peak(pid) < most, f"{peak(pid) / MIB:.0f} MiB"
    assert waiting.dead_letters() == []


@pytest.mark.long
def test_a_worker_stays_small_however_many_conversations_wait_for_it(
    waiting: Waiting, count: int, most: int
) -> None:
    """A morning's outage would leave more texts than the machine has memory for."""
    waiting.fill(each_of_another(count, "wait"))
    worker = waiting.add_worker()
    until(lambda: sum(waiting.owners().values()) == COUNT)
    steady(worker.pid, most)
    waiting.let_go()
    drain(waiting, worker.pid, count, most)
    handled = Counter(sid for sids in waiting.handled().values() for sid in sids)
    assert len(handled) == count
    assert set(handled.values()) == {1}


@pytest.mark.long
def test_a_worker_stays_small_however_many_messages_are_put_off_and_handles_the_next(
    waiting: Waiting, count: int, most: int
) -> None:
    """A handler that fails for everybody would take all memory, or silence who texts next."""
    due_ms = int(time.time() * 1000) + 40_000 + count // 3
    waiting.fill(each_of_another(count, "fail"), due_ms=due_ms)
    worker = waiting.add_worker()
    until(lambda: sum(waiting.owners().values()) == COUNT)
    waiting.settles("+15559999999", 60 + count / 2_000)
    waiting.settles("+15559999998", 20)
    steady(worker.pid, most, 3)
    assert len(waiting.handled()) == 2
    waiting.let_go()
    until(lambda: time.time() * 1000 > due_ms, 400)
    drain(waiting, worker.pid, count, most)
    assert len(waiting.handled()) == count + 2


def test_a_worker_stays_small_however_long_one_conversation_is(
    waiting: Waiting, count: int, most: int
) -> None:
    """One customer's loop would take all memory, or silence the others."""
    waiting.fill(("+15000000000", f"SM{n}", f"wait {n}") for n in range(count))
    worker = waiting.add_worker()
    until(lambda: sum(waiting.owners().values()) == COUNT)
    # Of the same partition: the first is behind all of them, the second comes when they are read.
    theirs = (f"+1555{n:07}" for n in range(1_000))
    one = partition_of(Conversation(OUR_NUMBER, "+15000000000"), COUNT)
    beside = [n for n in theirs if partition_of(Conversation(OUR_NUMBER, n), COUNT) == one]
    waiting.settles(beside[0], 30 + count / 2_000)
    waiting.settles(beside[1], 5)
    steady(worker.pid, most, 3)
    waiting.let_go()
    until(lambda: len(waiting.handled()["+15000000000"]) >= 2_000, 60)
    sids = waiting.handled()["+15000000000"]
    assert sids == [f"SM{n}" for n in range(len(sids))]
    assert peak(worker.pid) < most


@pytest.mark.long
def test_a_worker_stays_small_while_the_connector_is_down_and_texts_keep_arriving(
    waiting: Waiting, count: int, most: int
) -> None:
    """Replies would pile up in memory and in Redis, as many as there are texts."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{nobody.getsockname()[1]}/elements/api-v2"
        waiting.fill(each_of_another(count, "answer"))
        worker = waiting.add_worker(OPEN_CONNECTORS_BASE_URL=address)
        until(lambda: sum(waiting.waiting(lambda keys: keys.outbox)) >= COUNT * 1_000, 60)
        steady(worker.pid, most)
        assert max(waiting.waiting(lambda keys: keys.outbox)) <= 1_000 + 64
