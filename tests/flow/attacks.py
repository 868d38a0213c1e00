"""Hostile callbacks made from captured genuine ones, and floods of callers; seeded.

Run as a program it is a flood (`python -m tests.flow.attacks KIND PORT SECONDS`), in a process of
its own: it does not slow down whoever measures beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import quote_plus

from twilio.request_validator import RequestValidator

from service.core.twilio.forms import parse
from service.core.twilio.signature import signed_text

SAMPLES = sorted((Path(__file__).parents[1] / "samples" / "twilio").glob("*.form"))
PATH = "/callbacks/twilio"
FORM = "application/x-www-form-urlencoded"
JSON = "application/json"

Pairs = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Request:
    """One callback, as it is written to the wire."""

    pairs: Pairs
    signature: str | None
    method: str = "POST"
    query: str = ""
    body: bytes | None = None
    content_type: str = FORM
    headers: tuple[str, ...] = ()

    def wire(self) -> bytes:
        """Return its bytes."""
        body = self.body
        if body is None:
            body = b"" if self.method == "GET" else encode(self.pairs).encode()
        target = f"{PATH}?{self.query}" if self.query else PATH
        lines = [
            f"{self.method} {target} HTTP/1.1",
            "Host: sms.example.com",
            f"Content-Type: {self.content_type}",
            f"Content-Length: {len(body)}",
            *([] if self.signature is None else [f"X-Twilio-Signature: {self.signature}"]),
            *self.headers,
        ]
        return "\r\n".join((*lines, "", "")).encode("latin-1", "replace") + body


def encode(pairs: Pairs) -> str:
    """Write a form; names and values may hold anything."""
    return "&".join(
        f"{quote_plus(n, errors='replace')}={quote_plus(v, errors='replace')}" for n, v in pairs
    )


def captured(url: str, token: str, account: str, ours: str) -> list[Request]:
    """Return genuine callbacks of every kind for this service, signed by Twilio's library."""
    sign = RequestValidator(token).compute_signature
    found = []
    for number, sample in enumerate(SAMPLES):
        pairs = []
        for name, value in parse(sample.read_bytes().rstrip(b"\n")):
            kept = {"AccountSid": account, "To": ours}.get(name, value)
            if name in {"MessageSid", "SmsSid", "SmsMessageSid"}:
                kept = f"{value[:2]}{number:032x}"
            pairs.append((name, kept))
        found.append(Request(pairs, sign(url, dict(pairs))))
    pairs = [(n, v.replace("SM0", "SMf") if n.endswith("Sid") else v) for n, v in found[0].pairs]
    query = encode(pairs)
    found.append(Request(pairs, sign(f"{url}?{query}", {}), "GET", query))
    fields = {n: v.replace("SM0", "SMe") if n.endswith("Sid") else v for n, v in found[0].pairs}
    body = json.dumps(fields).encode()
    query = f"bodySHA256={hashlib.sha256(body).hexdigest()}"
    found.append(
        Request(list(fields.items()), sign(f"{url}?{query}", {}), "POST", query, body, JSON)
    )
    return found


class Attacker:
    """Makes hostile callbacks out of captured ones.

    It has every genuine signature, and no key. seed: the same one makes the same callbacks.
    """

    def __init__(self, genuine: Sequence[Request], seed: int) -> None:
        self._genuine = genuine
        self._dice = random.Random(seed)
        self._near = [cuts_of(signed_text(each.pairs).decode()) for each in genuine]
        self._ways = (
            *[self._move_boundaries] * 6,
            self._change_a_value,
            self._repeat_a_name,
            self._drop_or_add,
            self._another_sid,
            self._other_signature,
            self._other_way,
            self._garbage,
            self._event,
            self._settings_header,
        )

    def __iter__(self) -> Iterator[Request]:
        return self

    def __next__(self) -> Request:
        number = self._dice.randrange(len(self._genuine))
        return self._dice.choice(self._ways)(number)

    def _move_boundaries(self, number: int) -> Request:
        """Cut what is signed into other names and values; the signature still fits a form."""
        dice, genuine = self._dice, self._genuine[number]
        ordered = sorted(genuine.pairs)
        if dice.random() < 0.6:
            place = dice.randrange(len(ordered) - 1)
            many = dice.randint(1, min(4, len(ordered) - place))
            text = "".join(name + value for name, value in ordered[place : place + many])
            cuts = sorted(dice.randrange(len(text) + 1) for _ in range(2 * dice.randint(1, 3) - 1))
            pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
            middle = list(zip(pieces[::2], pieces[1::2], strict=True))
            pairs = [*ordered[:place], *middle, *ordered[place + many :]]
        else:
            text = "".join(name + value for name, value in ordered)
            count = 2 * dice.randint(3, 20) - 1
            cuts = sorted(
                dice.choice(self._near[number]) + dice.choice((0, 0, 0, 1, -1))
                for _ in range(count)
            )
            cuts = [min(max(cut, 0), len(text)) for cut in cuts]
            pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
            pairs = list(zip(pieces[::2], pieces[1::2], strict=True))
        return replace(genuine, pairs=pairs, method="POST", query="", body=None, content_type=FORM)

    def _change_a_value(self, number: int) -> Request:
        genuine = self._genuine[number]
        pairs = list(genuine.pairs)
        place = self._dice.randrange(len(pairs))
        pairs[place] = (pairs[place][0], self._text())
        return self._with_pairs(genuine, pairs)

    def _repeat_a_name(self, number: int) -> Request:
        genuine = self._genuine[number]
        pairs = list(genuine.pairs)
        name, value = self._dice.choice(pairs)
        extra = (name, self._dice.choice((value, self._text(), "AC" + "0" * 32, "SM" + "1" * 32)))
        pairs.insert(self._dice.randrange(len(pairs) + 1), extra)
        return self._with_pairs(genuine, pairs)

    def _drop_or_add(self, number: int) -> Request:
        genuine = self._genuine[number]
        pairs = list(genuine.pairs)
        if self._dice.random() < 0.5:
            del pairs[self._dice.randrange(len(pairs))]
        else:
            pairs += [(self._text(), self._text()) for _ in range(self._dice.choice((1, 5, 250)))]
        return self._with_pairs(genuine, pairs)

    def _another_sid(self, number: int) -> Request:
        genuine = self._genuine[number]
        sid = f"SM{self._dice.getrandbits(128):032x}"
        pairs = [(n, sid if n.endswith("Sid") and v[:2] == "SM" else v) for n, v in genuine.pairs]
        return self._with_pairs(genuine, pairs)

    def _other_signature(self, number: int) -> Request:
        dice, genuine = self._dice, self._genuine[number]
        signature = genuine.signature or ""
        fake = "".join(dice.choices("ABCDEFGHIJKLMNOPabcdefghijklmnop0123456789+/", k=27)) + "="
        other = dice.choice(
            (
                *(None, "", fake, signature[:-1], signature[:-1] + "A", signature + " ", fake * 4),
                *(signature.lower(), signature.replace("=", "%3D"), "\xff" * 28, fake[:14] * 2),
            )
        )
        sid = f"SM{dice.getrandbits(128):032x}"
        pairs = [(n, sid if n.endswith("Sid") and v[:2] == "SM" else v) for n, v in genuine.pairs]
        return replace(self._with_pairs(genuine, pairs), signature=other)

    def _other_way(self, number: int) -> Request:
        """Send it as something else than what was signed."""
        dice, genuine = self._dice, self._genuine[number]
        whole = encode(genuine.pairs)
        cut = whole.find("&", dice.randrange(len(whole)))
        return dice.choice(
            (
                replace(genuine, method="GET", query=whole, body=None),
                replace(genuine, method="POST", query=whole, body=whole.encode()),
                replace(genuine, query=whole[:cut], body=whole[cut + 1 :].encode()),
                replace(genuine, content_type=JSON, body=json.dumps(dict(genuine.pairs)).encode()),
                replace(genuine, query="bodySHA256=" + "0" * 64, content_type=JSON),
                replace(genuine, query="?" + genuine.query, body=whole.encode()),
                replace(genuine, query="a=" + "b" * dice.choice((1, 900, 20_000))),
                replace(
                    genuine, content_type=dice.choice(("text/plain", "", "multipart/form-data"))
                ),
                replace(genuine, method=dice.choice(("PUT", "DELETE", "OPTIONS", "PATCH"))),
            )
        )

    def _garbage(self, number: int) -> Request:
        dice = self._dice
        body = dice.randbytes(dice.choice((0, 1, 30, 2000, 60_000)))
        kind = dice.choice((FORM, JSON))
        if kind == JSON and dice.random() < 0.5:
            body = b"[" * 60_000 if dice.random() < 0.3 else b'{"MessageSid": ["SM"]}'
        return replace(self._genuine[number], body=body, content_type=kind)

    def _event(self, number: int) -> Request:
        genuine = self._genuine[number]
        body = json.dumps({"message": {"events": [dict(genuine.pairs)]}}).encode()
        fake = (
            "sha256=" + "".join(self._dice.choices("abcdefghijkABCDEFGHIJK0123456789", k=43)) + "="
        )
        signature = self._dice.choice((fake, "sha256=", "", genuine.signature or "", fake[:-5]))
        return replace(
            genuine,
            body=body,
            content_type=JSON,
            headers=(f"Elements-Webhook-Signature: {signature}",),
        )

    def _settings_header(self, number: int) -> Request:
        genuine = self._genuine[number]
        sid = f"SM{self._dice.getrandbits(128):032x}"
        pairs = [(n, sid if n.endswith("Sid") and v[:2] == "SM" else v) for n, v in genuine.pairs]
        value = self._dice.choice(
            (
                *("key=SK1,algorithm=HMAC_SHA256", "key=,algorithm=HMAC_SHA1", "algorithm=none"),
                *("key=", ",,,=,=", "key=" + "x" * 3000),
            )
        )
        return replace(
            self._with_pairs(genuine, pairs),
            headers=(f"X-Twilio-Webhooks-Signature-Settings: {value}",),
        )

    def _with_pairs(self, genuine: Request, pairs: Pairs) -> Request:
        if genuine.method == "GET":
            return replace(genuine, pairs=pairs, query=encode(pairs))
        if genuine.content_type == JSON:
            body = json.dumps(dict(pairs)).encode()
            query = f"bodySHA256={hashlib.sha256(body).hexdigest()}"
            return replace(genuine, pairs=pairs, body=body, query=query)
        return replace(genuine, pairs=pairs)

    def _text(self) -> str:
        dice = self._dice
        return dice.choice(
            ("", "x", "SM" + "0" * 32, "\x00", "\r\nA: b", "MessageSid", "😊" * 9, "a" * 1500, "+1")
        )


def cuts_of(text: str) -> list[int]:
    """Return where names of parameters begin and end in a signed text, roughly."""
    return [
        place
        for place in range(1, len(text))
        if text[place].isupper() or text[place] in "+h" or text[place - 1].isalpha()
    ] or [1]


@dataclass
class Line:
    """One kept-alive connection; it is opened again when the service closes it."""

    port: int
    statuses: Counter[int] = field(default_factory=Counter)
    reader: asyncio.StreamReader | None = None
    writer: asyncio.StreamWriter | None = None

    async def ask(self, request: bytes) -> int:
        """Send a request and return the status; 0 when the connection ended without one."""
        for _ in range(2):
            fresh = self.writer is None
            if self.writer is None or self.reader is None:
                opened = await asyncio.open_connection("127.0.0.1", self.port)
                self.reader, self.writer = opened
            try:
                self.writer.write(request)
                head = await self.reader.readuntil(b"\r\n\r\n")
            except (ConnectionError, asyncio.IncompleteReadError):
                self.close()
                if not fresh:
                    continue
                break
            status = int(head[9:12])
            lower = head.lower()
            length = int(lower.partition(b"content-length: ")[2].partition(b"\r")[0] or 0)
            if length:
                await self.reader.readexactly(length)
            if b"connection: close" in lower:
                self.close()
            self.statuses[status] += 1
            return status
        self.statuses[0] += 1
        return 0

    def close(self) -> None:
        """Close it."""
        if self.writer is not None:
            self.writer.transport.abort()
        self.reader = self.writer = None


async def close_all(lines: Sequence[Line]) -> None:
    """Close connections, and wait until they are."""
    writers = [line.writer for line in lines if line.writer is not None]
    for line in lines:
        line.close()
    await asyncio.gather(*(each.wait_closed() for each in writers), return_exceptions=True)


async def attack(
    port: int, requests: Iterator[Request], count: int, lines: int = 8
) -> Counter[int]:
    """Send so many requests; returns the statuses they were answered with."""
    left = count
    open_lines = [Line(port) for _ in range(lines)]

    async def drive(line: Line) -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await line.ask(next(requests).wire())

    await asyncio.gather(*(drive(line) for line in open_lines))
    await close_all(open_lines)
    return sum((line.statuses for line in open_lines), Counter())


# --- floods ---------------------------------------------------------------------------------------


async def endless_heads(port: int, end: float) -> None:
    """Send heads without an end, as fast as they are taken, on eight connections."""

    async def one() -> None:
        while time.monotonic() < end:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(b"POST /callbacks/twilio HTTP/1.1\r\nHost: x\r\nA: ")
                while time.monotonic() < end:
                    writer.write(b"a" * 65_536)
                    await writer.drain()

    await asyncio.gather(*(one() for _ in range(8)))


async def slow_callers(port: int, end: float) -> None:
    """Hold 1,500 requests that never end, half without a whole head, and open them again."""
    head = b"POST /callbacks/twilio HTTP/1.1\r\nHost: x\r\nContent-Type: " + FORM.encode()
    half = (
        head + b"\r\nContent-Length: 1000\r\nX-Twilio-Signature: " + b"a" * 27 + b"=\r\n\r\nBody="
    )

    async def one(number: int) -> None:
        await asyncio.sleep(number / 1000)
        while time.monotonic() < end:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(head if number % 2 else half)
                async with asyncio.timeout(max(0.1, end - time.monotonic())):
                    await reader.read()
                writer.close()
            await asyncio.sleep(0.5)

    await asyncio.gather(*(one(number) for number in range(1500)))


async def forgeries(port: int, end: float, per_s: int = 2000) -> None:
    """Send forged callbacks at a steady rate: small and large, with a query, with 1,000 fields."""
    signature = b"a" * 27 + b"="
    small = SAMPLES[-3].read_bytes().rstrip(b"\n")
    wide = b"&".join(b"field%d=%d" % (n, n) for n in range(1000))
    bodies = [(small, b""), (small, b"?" + b"q" * 6000), (wide[:8000], b""), (small, b"")]
    requests = [
        b"POST /callbacks/twilio%s HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\n"
        b"Content-Length: %d\r\nX-Twilio-Signature: %s\r\n\r\n%s"
        % (query, FORM.encode(), len(body), signature, body)
        for body, query in bodies
    ]
    lines = [Line(port) for _ in range(16)]
    began, sent = time.monotonic(), 0

    async def drive(line: Line) -> None:
        nonlocal sent
        while (now := time.monotonic()) < end:
            if sent >= (now - began) * per_s:
                await asyncio.sleep(0.002)
                continue
            sent += 1
            await line.ask(requests[sent % len(requests)])

    await asyncio.gather(*(drive(line) for line in lines))
    await close_all(lines)
    if sent < (end - began) * per_s * 0.7:
        sys.exit(f"only {sent} forged callbacks were sent")


FLOODS = {"heads": endless_heads, "slow": slow_callers, "forgeries": forgeries}

if __name__ == "__main__":
    kind, port, seconds = sys.argv[1:]
    asyncio.run(FLOODS[kind](int(port), time.monotonic() + float(seconds)))
