"""What is written down of Redis's keys is what a run leaves there."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from cryptography.fernet import Fernet

from service.core.sealing import Sealer
from service.handlers.router import Router
from service.model import DeliveryStatus, Instance, Message, MessageSid, Partition
from service.store import keys
from service.store.instances import Instances
from service.store.keys import WRITTEN_DOWN, KeyForm, PartitionKeys
from service.store.layout import claim_partition_count
from service.store.pace import Pace
from service.store.watermark import Watermark
from tests.connector.pieces import OURS
from tests.workers.pieces import FAILED_AFTER, Desk, Phone, at_work, text, until, ways

pytestmark = pytest.mark.anyio


def forms_of(key: str) -> list[KeyForm]:
    """What is written down of a key."""
    found = []
    for form in WRITTEN_DOWN:
        pattern = re.escape(form.name).replace(r"\{p07\}", r"\{p\d\d\}")
        if re.fullmatch(re.sub(r"<[^>]*>", "[^:]+", pattern), key):
            found.append(form)
    return found


async def test_every_key_that_a_run_leaves_in_redis_is_written_down(
    desk: Desk, phone: Phone
) -> None:
    """Whoever looks into Redis, cleans it up or moves it would not know what they have found."""

    def answer(message: Message) -> str:
        if message.body == "fail":
            raise ValueError("broken on purpose")
        return message.body

    router = Router()
    router.default(answer)
    instances = Instances(desk.client, Sealer([Fernet.generate_key().decode()]))
    watermark = Watermark(desk.client)
    now = datetime.now(UTC)
    seen: dict[str, tuple[str, bool]] = {}

    async def look() -> None:
        async for raw in desk.client.scan_iter("*", count=1000):
            kind, ttl_ms = await desk.client.type(raw), await desk.client.pttl(raw)
            if kind != b"none" and ttl_ms != -2:  # It may be gone by now.
                seen[raw.decode()] = kind.decode(), ttl_ms != -1

    await claim_partition_count(desk.client, 1)
    await watermark.first(now)
    await watermark.save(now)
    await watermark.learn([OURS])
    await instances.save(Instance("1", "token", "parley", (), "https://sms.example.com", ""))
    await Pace(desk.batch, 1).turn(OURS, 1)
    report = DeliveryStatus(MessageSid("SM9"), "failed", "21610", OURS, "+15005550199")
    assert await desk.inbox.accept(report)
    phone.plan = [FAILED_AFTER]

    async def over() -> bool:
        await look()
        return bool(await desk.dead()) and await desk.empty()

    async with (
        watermark.lock(),
        instances.lock(),
        ways(router, phone.url) as how,
        at_work(desk, how),
    ):
        for each in (text("SM1"), text("SM2", "fail", "+15005550124")):
            assert await desk.inbox.accept(each)
        await until(over)
        await look()

    assert {key: forms_of(key) for key in seen if len(forms_of(key)) != 1} == {}
    written = {key: (forms_of(key)[0].type, bool(forms_of(key)[0].lives)) for key in seen}
    assert seen == written
    # Enough to be a run: of the rest, one is for POSTs that no sid names, others live for a moment.
    left = {forms_of(key)[0].name.split("}:")[1] for key in seen}
    assert left >= {
        *("dead", "epoch", "lease", "seen:<sid>", "sent:<sid>", "optouts", "optout:<sid>"),
        *("status:<sid>:<status>", "alive", "pace", "record", "lock", "covered", "first"),
        *("numbers", "partitions"),
    }


def made() -> list[str]:
    """Every key that `service.store.keys` can make."""
    own = PartitionKeys(Partition(7))
    sid = MessageSid("SM1")
    fixed = [getattr(own, name) for name in own.__slots__ if name != "prefix"]
    fixed += [own.seen(sid), own.sent("1"), own.status(sid, "sent"), own.optout(sid)]
    fixed += [own.unlisted("ab"), keys.pace(OURS), keys.session("ab"), keys.sign_in_token("ab")]
    fixed += [keys.tries_of("ab"), keys.refusal_of("ab")]
    return fixed + [
        each for each in vars(keys).values() if isinstance(each, str) and each.startswith("parley:")
    ]


@pytest.mark.parametrize("key", made())
def test_a_key_that_can_be_made_is_written_down_once(key: str) -> None:
    """A new key would be known to whoever added it, and to nobody else."""
    assert len(forms_of(key)) == 1


def test_nothing_is_written_down_that_nobody_makes() -> None:
    """A reader would look for what is not there."""
    assert {form.name for key in made() for form in forms_of(key)} == {
        form.name for form in WRITTEN_DOWN
    }
