"""Load for whole-system tests: publishes as Twilio would, then counts what became of every text.

Texts of one phone are published one after the other: the next only after 200 for the one before,
a refused or unanswered one again with the same MessageSid. So the order that the replies must have
is known: the order of the numbers in them.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from twilio.request_validator import RequestValidator

from service.lab.http1 import Client, NoAnswer, NotSent

FORM = "application/x-www-form-urlencoded"

HANDLERS = """
import asyncio, os
from service import Router
router = Router()

@router.keyword("DIE")
async def die(message):
    os._exit(1)

@router.pattern(r"SLOW (?P<seconds>[0-9.]+)")
async def slow(message, seconds):
    await asyncio.sleep(float(seconds))
    return f"re {message.from_} 0"

@router.keyword("HOLD")
async def hold(message):
    while not os.path.exists(os.path.join(os.path.dirname(__file__), "let-go")):
        await asyncio.sleep(0.1)
    return f"re {message.from_} 0"

@router.default
async def echo(message):
    return "re " + message.body
"""


@dataclass
class Published:
    """What was published: by phone, the numbers of its texts; and how the door answered."""

    texts: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    answers: dict[int, int] = field(default_factory=lambda: defaultdict(int))


class Publisher:
    """Publishes signed callbacks to a deployment's door.

    seed: of the duplicates, bad signatures and pauses. pause_s: longest between two texts of one
        phone, so that a load lasts while things break.
    """

    def __init__(self, deployment: Any, seed: int, *, pause_s: float) -> None:
        self._settings = deployment.settings
        self._url = f"{deployment.public}/callbacks/twilio"
        self._validator = RequestValidator(deployment.auth_token)
        self._client = Client(deployment.public, connections=64, connect_timeout_s=2)
        self._dice = random.Random(seed)
        self._pause_s = pause_s

    async def publish(
        self, phones: int, texts: int, *, first: int = 0, over: asyncio.Event | None = None
    ) -> Published:
        """Publish `texts` texts from each of `phones` phones, numbered from `first`.

        over: each phone goes on beyond that until this is set.
        """
        published = Published()

        def numbers() -> Iterator[int]:
            yield from range(first, first + texts)
            for number in itertools.count(first + texts):
                if over is None or over.is_set():
                    return
                yield number

        try:
            async with asyncio.TaskGroup() as texting:
                for phone in range(phones):
                    theirs = f"+1500{555_0000 + phone}"
                    texting.create_task(self._phone(theirs, numbers(), published))
        finally:
            await self._client.aclose()
        return published

    async def _phone(self, theirs: str, numbers: Iterable[int], published: Published) -> None:
        for number in numbers:
            headers, body = self._callback(theirs, number)
            while await self._post(headers, body, published) != 200:
                await asyncio.sleep(0.1)
            published.texts[theirs].append(number)
            if self._dice.random() < 0.02:
                assert await self._post(headers, body, published) in {200, 503, 0}
            if self._dice.random() < 0.02:
                forged = headers | {"X-Twilio-Signature": "AAAAAAAAAAAAAAAAAAAAAAAAAAA="}
                assert await self._post(forged, body, published) in {403, 503, 0}
            await asyncio.sleep(self._dice.random() * self._pause_s)

    async def _post(self, headers: dict[str, str], body: bytes, published: Published) -> int:
        status = 0
        try:
            answer = await self._client.request(
                "POST", "/callbacks/twilio", headers, body, timeout_s=15
            )
            status = answer.status
        except (NoAnswer, NotSent):
            pass
        published.answers[status] += 1
        return status

    def _callback(self, theirs: str, number: int) -> tuple[dict[str, str], bytes]:
        sid = f"SM{theirs[1:]}{number:0{32 - len(theirs) + 1}d}"
        form = {
            "AccountSid": self._settings["TWILIO_ACCOUNT_SID"],
            "ApiVersion": "2010-04-01",
            "Body": f"{theirs} {number}",
            "From": theirs,
            "MessageSid": sid,
            "NumMedia": "0",
            "NumSegments": "1",
            "SmsMessageSid": sid,
            "SmsSid": sid,
            "SmsStatus": "received",
            "To": self._settings["TWILIO_SENDER"],
        }
        signature = self._validator.compute_signature(self._url, form)
        return {"Content-Type": FORM, "X-Twilio-Signature": signature}, urlencode(form).encode()


@dataclass(frozen=True)
class Verdict:
    """What became of everything published. Each list names phone and number."""

    lost: list[str]
    doubled: list[str]
    disordered: list[str]

    @property
    def good(self) -> bool:
        """Whether each text was answered once, in order."""
        return not (self.lost or self.doubled or self.disordered)

    def __str__(self) -> str:
        kinds = {"lost": self.lost, "doubled": self.doubled, "out of order": self.disordered}
        return "; ".join(
            f"{len(found)} {kind}: {', '.join(found[:5])}{', ...' if found[5:] else ''}"
            for kind, found in kinds.items()
            if found
        )


def judge(published: Published, bodies: list[str]) -> Verdict:
    """Compare what was published with the replies' bodies, in order of arrival."""
    arrived: dict[str, list[int]] = defaultdict(list)
    for body in bodies:
        _, theirs, number = body.split(" ")
        arrived[theirs].append(int(number))
    lost, doubled, disordered = [], [], []
    for theirs, numbers in published.texts.items():
        wanted = set(numbers)
        answers = Counter(number for number in arrived[theirs] if number in wanted)
        once = list(answers)
        lost += [f"{theirs} {number}" for number in wanted - set(once)]
        doubled += [f"{theirs} {number}" for number in once if answers[number] > 1]
        pairs = itertools.pairwise(once)
        disordered += [
            f"{theirs} {later} after {sooner}" for sooner, later in pairs if later < sooner
        ]
    return Verdict(sorted(lost), doubled, disordered)


def settled_verdict(deployment: Any, published: Published, within_s: float) -> Verdict:
    """Wait until everything is answered, and a moment longer for what must not come."""
    deadline = time.monotonic() + within_s
    while True:
        verdict = judge(published, deployment.bodies())
        if not verdict.lost or time.monotonic() > deadline:
            break
        time.sleep(0.2)
    time.sleep(0.7)
    return judge(published, deployment.bodies())
