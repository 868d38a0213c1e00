"""Which callbacks a run sends: made and signed before the clock starts. Pure but for the dice."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from service.core.twilio.signature import SigningKey, signed_text
from service.lab.bench.figures import Kind, Marker

CONTENT_TYPE = "application/x-www-form-urlencoded; charset=utf-8"

DUPLICATE_WITHIN = 200
"""A duplicate follows its first by up to so many callbacks: some while that is still under way."""


@dataclass(frozen=True, slots=True)
class Target:
    """Whom callbacks are for, and in whose name they are signed.

    url: the callback URL the deployment was registered with. account: AccountSid. to: our number.
    """

    url: str
    token: str
    account: str
    to: str


@dataclass(frozen=True, slots=True)
class Place:
    """A deployment, and where its parts can be looked at.

    target: whom callbacks are for. address: where they are sent, the signed URL or another way
    there. connector_log: the sandbox's address. internal: the internal listener's address.
    service, sandbox: process ids. redis_socket: of the deployment's own Redis. processes: how
    many serve; None where that is not known. delay_ms: what the connector waits, None to leave it.
    """

    target: Target
    address: str
    connector_log: str | None = None
    internal: str | None = None
    service: int | None = None
    sandbox: int | None = None
    redis_socket: Path | None = None
    processes: int | None = None
    delay_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Callback:
    """One callback, ready to be sent."""

    kind: Kind
    marker: Marker
    headers: Mapping[str, str]
    body: bytes


def make_plan(
    target: Target,
    run: str,
    *,
    messages: int,
    conversations: int,
    duplicates: float,
    forged: float,
    dice: random.Random,
) -> list[Callback]:
    """Make the callbacks of a run, in the order they are to be sent.

    run: in hex, unlike any other run's. messages: sent for the first time, spread evenly over the
    conversations. duplicates, forged: as many as that share of `messages` on top, one at least
    unless the share is 0.
    """
    token = SigningKey(target.token)
    wrong = SigningKey(target.token + "-forged")
    firsts = [
        _sign(target, token, "new", Marker(run, number % conversations, number))
        for number in range(messages)
    ]
    placed = [(float(number), callback) for number, callback in enumerate(firsts)]
    for _ in range(_share(messages, duplicates)):
        number = dice.randrange(messages)
        first = firsts[number]
        again = Callback("duplicate", first.marker, first.headers, first.body)
        placed.append((number + dice.uniform(0.5, DUPLICATE_WITHIN), again))
    for place in range(_share(messages, forged)):
        marker = Marker(run, dice.randrange(conversations), messages + place)
        placed.append((dice.uniform(0, messages), _sign(target, wrong, "forged", marker)))
    placed.sort(key=lambda each: each[0])
    return [callback for _, callback in placed]


def poisson(count: int, rate: float, dice: random.Random) -> Sequence[float]:
    """Draw the moments of `count` events that come `rate` a second, independently; from 0."""
    moments, now = [], 0.0
    for _ in range(count):
        moments.append(now)
        now += dice.expovariate(rate)
    return moments


def _share(messages: int, share: float) -> int:
    return max(1, round(messages * share)) if share else 0


def _sign(target: Target, token: SigningKey, kind: Kind, marker: Marker) -> Callback:
    sid = f"SM{marker.run:0>16.16}{marker.number:016x}"
    # Twilio's parameters in the order it sends them; "echo" is what the example handlers answer.
    form = {
        "ToCountry": "US",
        "ToState": "CA",
        "SmsMessageSid": sid,
        "NumMedia": "0",
        "ToCity": "SAN FRANCISCO",
        "FromZip": "10001",
        "SmsSid": sid,
        "FromState": "NY",
        "SmsStatus": "received",
        "FromCity": "NEW YORK",
        "Body": f"echo {marker}",
        "FromCountry": "US",
        "To": target.to,
        "ToZip": "94103",
        "NumSegments": "1",
        "MessageSid": sid,
        "AccountSid": target.account,
        "From": f"+1555{marker.conversation:07d}",
        "ApiVersion": "2010-04-01",
    }
    signature = token.sign(target.url.encode() + signed_text(list(form.items())))
    headers = {
        "Content-Type": CONTENT_TYPE,
        "X-Twilio-Signature": signature.decode(),
        "User-Agent": "TwilioProxy/1.1",
        "Accept": "*/*",
    }
    return Callback(kind, marker, headers, urlencode(form).encode())
