"""What the sandbox remembers: instances, messages, callbacks, and a feed of events about them.

Everything is kept in memory and bounded; nothing survives the process.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import secrets
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec

MESSAGES_KEPT = 200_000
"""Messages and callbacks remembered; the oldest are forgotten first."""

EVENTS_KEPT = 500
"""Events a phone page that lost its connection can still catch up on."""

PREFIX = "messaging.sms.twilio."


@dataclass(slots=True)
class Instance:
    """A provisioned instance, secrets in the clear: the sandbox has to sign with them."""

    id: int
    name: str
    token: str
    element: str
    configuration: dict[str, str]
    tags: list[str]
    disabled: bool = False

    @property
    def our_number(self) -> str:
        """The number that texts go to."""
        return self.configuration.get(f"{PREFIX}sender", "")

    @property
    def callback_url(self) -> str:
        """Where texts are delivered, a fragment with connection overrides included."""
        return self.configuration.get(f"{PREFIX}callback.url", "")


@dataclass(slots=True)
class Message:
    """A text or a reply, as the phone page and the message log show it.

    direction: "text" (phone to service) or "reply". state: "sending", "accepted" or "failed" for a
    text, "received" for a reply. after_ms: for a reply, ms since the last text it follows.
    arrival: order among replies. token_ok: it carried the token of a live instance.
    """

    sid: str
    theirs: str
    ours: str
    direction: str
    body: str
    media: list[str]
    at: str
    state: str
    detail: str = ""
    after_ms: float | None = None
    arrival: int = 0
    token_ok: bool = False
    moment: float = field(default_factory=time.monotonic)

    def shown(self) -> dict[str, Any]:
        """The message as the phone page gets it."""
        keys = [
            "sid",
            "theirs",
            "ours",
            "direction",
            "body",
            "media",
            "at",
            "state",
            "detail",
            "after_ms",
        ]
        return {key: getattr(self, key) for key in keys}


@dataclass(slots=True)
class Trouble:
    """How the connector misbehaves for the next `count` sends; the default is not at all.

    status: answer with it instead of 200, without accepting the message. latency_ms: wait before
    answering, after the message is accepted. hang: accept nothing and never answer.
    reset: accept the message, then close the connection without an answer.
    retry_after_s: Retry-After of an error answer. count: sends it lasts for; -1 without end.
    """

    count: int = 0
    status: int = 0
    latency_ms: float = 0
    hang: bool = False
    reset: bool = False
    retry_after_s: float | None = None

    def take(self) -> Trouble | None:
        """Use it up for one send; None when there is no trouble."""
        if self.count == 0:
            return None
        self.count -= self.count > 0
        return self


class Feed:
    """Server-sent events, with a short memory for pages that reconnect."""

    def __init__(self) -> None:
        self._recent: deque[tuple[int, bytes]] = deque(maxlen=EVENTS_KEPT)
        self._ids = itertools.count(1)
        self._listeners: set[asyncio.Event] = set()

    def publish(self, kind: str, data: Mapping[str, Any]) -> None:
        """Tell every page."""
        id_ = next(self._ids)
        text = b"id: %d\nevent: %b\ndata: %b\n\n" % (id_, kind.encode(), msgspec.json.encode(data))
        self._recent.append((id_, text))
        for listener in self._listeners:
            listener.set()

    async def follow(self, after: int | None, heartbeat_s: float) -> AsyncIterator[bytes]:
        """Yield events behind an id (None: from now on), and a comment when all is quiet."""
        last = after if after is not None else (self._recent[-1][0] if self._recent else 0)
        changed = asyncio.Event()
        self._listeners.add(changed)
        try:
            yield b"retry: 1000\n\n"
            while True:
                changed.clear()
                for id_, text in list(self._recent):
                    if id_ > last:
                        last = id_
                        yield text
                try:
                    async with asyncio.timeout(heartbeat_s):
                        await changed.wait()
                except TimeoutError:
                    yield b": still here\n\n"
        finally:
            self._listeners.discard(changed)


class Records:
    """All of the sandbox's memory."""

    def __init__(self) -> None:
        self.instances: dict[int, Instance] = {}
        self.by_token: dict[str, Instance] = {}
        self.messages: deque[Message] = deque(maxlen=MESSAGES_KEPT)
        self.callbacks: deque[dict[str, Any]] = deque(maxlen=MESSAGES_KEPT)
        self.instances_created = 0
        self.trouble = Trouble()
        self.feed = Feed()
        self._instance_ids = itertools.count(1234)
        self._arrivals = itertools.count(1)
        self._last_text: dict[tuple[str, str], float] = {}

    def create_instance(
        self, element: str, name: str, configuration: Mapping[str, str], tags: list[str]
    ) -> Instance:
        """Make an instance with a fresh token."""
        instance = Instance(
            id=next(self._instance_ids),
            name=strip_html(name),
            token=secrets.token_urlsafe(32) + "=",
            element=element,
            configuration=dict(configuration),
            tags=[strip_html(tag) for tag in tags],
        )
        self.instances[instance.id] = instance
        self.by_token[instance.token] = instance
        self.instances_created += 1
        self.feed.publish("provisioned", {"our_number": instance.our_number})
        return instance

    def delete_instance(self, instance: Instance) -> None:
        """Forget an instance; its token is refused from now on."""
        del self.instances[instance.id]
        del self.by_token[instance.token]

    @property
    def phone_instance(self) -> Instance | None:
        """The instance that texts from the phone page go to: the newest."""
        return next(reversed(self.instances.values()), None)

    def add_text(self, sid: str, theirs: str, ours: str, body: str, media: list[str]) -> Message:
        """Note a text that is about to be delivered."""
        text = Message(sid, theirs, ours, "text", body, media, now_iso(), "sending")
        self._last_text[theirs, ours] = text.moment
        self._add(text)
        return text

    def add_reply(self, sid: str, theirs: str, ours: str, body: str, media: list[str]) -> Message:
        """Note a reply that a live instance sent."""
        reply = Message(sid, theirs, ours, "reply", body, media, now_iso(), "received")
        reply.arrival = next(self._arrivals)
        reply.token_ok = True
        since = self._last_text.get((theirs, ours))
        if since is not None:
            reply.after_ms = round((reply.moment - since) * 1000, 1)
        self._add(reply)
        return reply

    def changed(self, message: Message) -> None:
        """Tell the pages that a message has another state."""
        self.feed.publish("message", message.shown())

    def wire(self, direction: str, summary: str, status: int, took_ms: float) -> None:
        """Tell the pages of a request that crossed the wire."""
        row = {
            "at": now_iso(),
            "direction": direction,
            "summary": summary,
            "status": status,
            "ms": round(took_ms, 1),
        }
        self.feed.publish("wire", row)

    def threads(self) -> list[dict[str, Any]]:
        """Conversations by phone, the messages of each in order."""
        found: dict[str, list[dict[str, Any]]] = {}
        for message in self.messages:
            found.setdefault(message.theirs, []).append(message.shown())
        return [{"theirs": theirs, "messages": messages} for theirs, messages in found.items()]

    def as_json(self) -> dict[str, Any]:
        """Everything a test may want to count; no secrets."""
        return {
            "instances_created": self.instances_created,
            "instances": [
                {"id": each.id, "name": each.name, "tags": each.tags, "disabled": each.disabled}
                for each in self.instances.values()
            ],
            "callbacks": list(self.callbacks),
            "replies": [asdict(each) for each in self.messages if each.direction == "reply"],
        }

    def _add(self, message: Message) -> None:
        self.messages.append(message)
        self.changed(message)


def new_sid(kind: str = "SM") -> str:
    """Make a message sid as Twilio's are."""
    return kind + secrets.token_hex(16)


def now_iso() -> str:
    """The time in ISO 8601, UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def strip_html(text: str) -> str:
    """Remove tags, as the platform does to names and tags."""
    return re.sub(r"<[^>]*>", "", text)
