"""What the sandbox remembers: instances, texts, replies, callbacks, refusals.

Everything is kept in memory, in lists that are bounded; nothing survives the process.
"""

from __future__ import annotations

import base64
import itertools
import re
import secrets
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from service.core import opt_out
from service.sandbox.elements import ELEMENTS, NUMBER_OF_ACCOUNT, Element
from service.sandbox.feed import Feed
from service.sandbox.switches import Switches
from service.sandbox.trouble import Trouble

KEPT = 200_000
"""Messages, and as many callbacks and conversations, remembered; the oldest are forgotten first.
Measured: 150 MB for 200,000 short messages and 100,000 callbacks."""

REFUSALS_KEPT = 10_000
"""Sends that were refused, the newest."""


@dataclass(slots=True)
class Instance:
    """A provisioned instance, secrets in the clear: the phone network has to sign with them.

    entry_ids: the number the platform gave each configuration entry.
    """

    id: int
    name: str
    token: str = field(repr=False)
    element: str
    configuration: dict[str, str] = field(repr=False)
    tags: list[str]
    disabled: bool = False
    entry_ids: dict[str, int] = field(default_factory=dict)

    @property
    def kind(self) -> Element:
        """Its connector."""
        return ELEMENTS[self.element]

    @property
    def our_number(self) -> str:
        """The number that texts go to."""
        return self.configuration.get(self.kind.sender, NUMBER_OF_ACCOUNT)

    @property
    def callback_url(self) -> str:
        """Where texts are delivered, a fragment with connection overrides included."""
        return self.configuration.get(self.kind.callback_url, "")

    @property
    def account(self) -> str:
        """The Twilio account."""
        return self.configuration.get(self.kind.account, "")

    @property
    def auth_token(self) -> str:
        """The token of that account, with which callbacks are signed."""
        return self.configuration.get(self.kind.token, "")


@dataclass(slots=True)
class Message:
    """A text or a reply, as the phone page, the tests and the message log see it.

    direction: "text" (phone to service) or "reply". at: ISO 8601, UTC; moment_s: the same on the
    monotonic clock. state: "sending", "accepted" or "failed" for a text, "received" for a reply.
    detail: what became of a text's callback, a sentence; warning: what Twilio would complain about.
    For a reply: after_ms since the last text of its conversation; arrival: its place among all
    replies, from 1; instance: whose token it carried; token_ok: that token and the secrets are the
    ones `POST /instances` was made with and returned.
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
    warning: str = ""
    after_ms: float | None = None
    arrival: int = 0
    instance: int | None = None
    token_ok: bool = False
    moment_s: float = field(default_factory=time.monotonic)


@dataclass(frozen=True, slots=True)
class Callback:
    """One attempt to deliver a text. status: 0 without an answer. answer: its first 200 bytes."""

    sid: str
    at: str
    attempt: int
    status: int
    ms: float
    answer: str
    warning: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """A send that was refused, with the status and the reason; token_ok: not for its token."""

    at: str
    status: int
    reason: str
    token_ok: bool


class Records:
    """All of the sandbox's memory."""

    def __init__(self) -> None:
        self.instances: dict[int, Instance] = {}
        self.by_token: dict[str, Instance] = {}
        self.messages: deque[Message] = deque(maxlen=KEPT)
        self.callbacks: deque[Callback] = deque(maxlen=KEPT)
        self.refusals: deque[Refusal] = deque(maxlen=REFUSALS_KEPT)
        self.opted_out: set[tuple[str, str]] = set()
        self.instances_created = 0
        self.replies_received = 0
        self.trouble = Trouble(count=0)
        self.switches = Switches()
        self.feed = Feed()
        self.after_reply: Callable[[Instance, Message], None] | None = None
        self._instance_ids = itertools.count(1234)
        self._entry_ids = itertools.count(80_001)
        self._last_text: dict[tuple[str, str], float] = {}

    def create_instance(
        self, element: str, name: str, configuration: Mapping[str, str], tags: Sequence[str]
    ) -> Instance:
        """Make an instance with a fresh token."""
        instance = Instance(
            id=next(self._instance_ids),
            name=strip_html(name),
            token=base64.b64encode(secrets.token_bytes(32)).decode(),
            element=element,
            configuration={},
            tags=[strip_html(tag) for tag in tags],
        )
        self.instances[instance.id] = instance
        self.by_token[instance.token] = instance
        self.instances_created += 1
        self.configure(instance, configuration)
        return instance

    def configure(self, instance: Instance, changes: Mapping[str, str]) -> None:
        """Set configuration entries of an instance."""
        for key, value in changes.items():
            instance.configuration[key] = value
            if key not in instance.entry_ids:
                instance.entry_ids[key] = next(self._entry_ids)
        self._tell_number()

    def rotate(self, instance: Instance) -> None:
        """Give an instance a new token."""
        del self.by_token[instance.token]
        instance.token = base64.b64encode(secrets.token_bytes(32)).decode()
        self.by_token[instance.token] = instance

    def delete_instance(self, instance: Instance) -> None:
        """Forget an instance; its token is refused from now on."""
        del self.instances[instance.id]
        del self.by_token[instance.token]
        self._tell_number()

    @property
    def phone_instance(self) -> Instance | None:
        """The instance that texts go to: the newest."""
        return next(reversed(self.instances.values()), None)

    @property
    def our_number(self) -> str | None:
        """The number the phone page texts, None while there is no instance."""
        instance = self.phone_instance
        return instance.our_number if instance else None

    def instance_for(self, ours: str) -> Instance | None:
        """The newest instance with that number, else the newest: a pool's numbers share one."""
        newest_first = reversed(self.instances.values())
        owners = (each for each in newest_first if each.our_number == ours)
        return next(owners, self.phone_instance)

    def add_text(
        self, sid: str, theirs: str, ours: str, body: str, media: Sequence[str]
    ) -> Message:
        """Note a text that is about to be delivered, and an opt-out as the network does."""
        text = Message(sid, theirs, ours, "text", body, list(media), now_iso(), "sending")
        conversation = (theirs, ours)
        word = body.strip().upper()
        if word in opt_out.STOP and opt_out.LONG_CODE.fullmatch(ours):
            self.opted_out.add(conversation)
        elif word in opt_out.START:
            self.opted_out.discard(conversation)
        # Newest last, so that the first is the one to forget.
        self._last_text.pop(conversation, None)
        self._last_text[conversation] = text.moment_s
        if len(self._last_text) > KEPT:
            del self._last_text[next(iter(self._last_text))]
        self._add(text)
        return text

    def add_reply(
        self, instance: Instance, theirs: str, ours: str, body: str, media: Sequence[str]
    ) -> Message:
        """Note a reply that an instance's token opened the door for."""
        sid = new_sid("MM" if media else "SM")
        reply = Message(sid, theirs, ours, "reply", body, list(media), now_iso(), "received")
        self.replies_received += 1
        reply.arrival = self.replies_received
        reply.instance = instance.id
        reply.token_ok = self.by_token.get(instance.token) is instance
        since = self._last_text.get((theirs, ours))
        if since is not None:
            reply.after_ms = round((reply.moment_s - since) * 1000, 1)
        self._add(reply)
        if self.after_reply is not None:
            self.after_reply(instance, reply)
        return reply

    def changed(self, message: Message) -> None:
        """Tell the pages that a message has another state."""
        self.feed.publish("message", message)

    def wire(
        self, direction: str, summary: str, status: int, took_ms: float, note: str = ""
    ) -> None:
        """Tell the pages of a request that crossed the wire.

        direction: "callback" (to the service) or "request" (to the connector). summary: method and
        path. status: 0 without an answer. note: what was wrong.
        """
        row = {
            "at": now_iso(),
            "direction": direction,
            "summary": summary,
            "status": status,
            "ms": round(took_ms, 1),
            "note": note,
        }
        self.feed.publish("wire", row)

    def threads(self, phones: int, newest: int) -> list[dict[str, Any]]:
        """Return conversations by phone, the last active first; messages of each in order.

        phones: most phones. newest: most messages of each.
        """
        found: dict[str, list[Message]] = {}
        for message in reversed(self.messages):
            thread = found.get(message.theirs)
            if thread is None:
                if len(found) == phones:
                    continue
                thread = found[message.theirs] = []
            if len(thread) < newest:
                thread.append(message)
        return [{"theirs": theirs, "messages": each[::-1]} for theirs, each in found.items()]

    def replies_after(self, arrival: int, count: int) -> list[Message]:
        """Return the replies that arrived after one, the next `count` of them, in order."""
        newest_first = (each for each in reversed(self.messages) if each.direction == "reply")
        behind = list(itertools.takewhile(lambda reply: reply.arrival > arrival, newest_first))
        return behind[::-1][:count]

    def as_json(self) -> dict[str, Any]:
        """Return everything a test may want to count; no secrets."""
        return {
            "instances_created": self.instances_created,
            "instances": [
                {
                    "id": each.id,
                    "name": each.name,
                    "element": each.element,
                    "tags": each.tags,
                    "disabled": each.disabled,
                    "our_number": each.our_number,
                    "callback_url": each.callback_url,
                }
                for each in self.instances.values()
            ],
            "callbacks": list(self.callbacks),
            "replies": [each for each in self.messages if each.direction == "reply"],
            "refusals": list(self.refusals),
        }

    def _add(self, message: Message) -> None:
        self.messages.append(message)
        self.changed(message)

    def _tell_number(self) -> None:
        self.feed.publish("provisioned", {"our_number": self.our_number})


def new_sid(kind: str = "SM") -> str:
    """Make a message sid as Twilio's are."""
    return kind + secrets.token_hex(16)


def now_iso() -> str:
    """Tell the time in ISO 8601, UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def strip_html(text: str) -> str:
    """Remove tags, as the platform does from names and tags."""
    return re.sub(r"<[^>]*>", "", text)
