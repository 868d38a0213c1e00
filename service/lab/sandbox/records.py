"""What the sandbox remembers: instances, texts, replies, callbacks, refusals.

Everything is kept in memory, in collections that are bounded; nothing survives the process.
"""

from __future__ import annotations

import base64
import itertools
import re
import secrets
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from service.core.twilio import opt_out
from service.lab.sandbox.confirmations import answer_of_network
from service.lab.sandbox.elements import DEFAULTS, ENABLED
from service.lab.sandbox.feed import Feed
from service.lab.sandbox.instance import Instance, Subscription
from service.lab.sandbox.mappings import Mappings
from service.lab.sandbox.message import Callback, Message, Refusal, new_sid, now_iso
from service.lab.sandbox.standing import Service, Standing
from service.lab.sandbox.switches import Switches
from service.lab.sandbox.trouble import Trouble
from service.lab.sandbox.wire import Exchange, WireLog

KEPT = 200_000
"""Messages, and as many callbacks, conversations and opt-outs, remembered; the oldest are forgotten
first. Measured: 150 MB for 200,000 short messages and 100,000 callbacks."""

KEPT_CHARACTERS = 100_000_000
"""Texts and picture addresses of all messages together; the oldest are forgotten first."""

REFUSALS_KEPT = 10_000
"""Sends that were refused, the newest."""

REFUSED_WITHIN = 1_000
"""Newest messages among which a refused reply's text is sought: load tests are refused often."""

NOTE_CHARACTERS = 300
"""Of a wire row's path and note; what the callback URL or the service said may be longer."""

Value = TypeVar("Value")


class Records:
    """All of the sandbox's memory. mappings: of common resources.

    kept: messages, callbacks, conversations and opt-outs. kept_characters: of the texts and picture
    addresses of all messages together.
    """

    def __init__(self, *, kept: int = KEPT, kept_characters: int = KEPT_CHARACTERS) -> None:
        self.instances: dict[int, Instance] = {}
        self.by_token: dict[str, Instance] = {}
        self.messages: deque[Message] = deque(maxlen=kept)
        self.callbacks: deque[Callback] = deque(maxlen=kept)
        self.refusals: deque[Refusal] = deque(maxlen=REFUSALS_KEPT)
        self.mappings = Mappings()
        self.instances_created = 0
        self.replies_received = 0
        self.serial = 0
        self.trouble = Trouble(count=0)
        self.switches = Switches()
        self.feed = Feed()
        self.wire_log = WireLog()
        self.service = Service()
        self.gone_at = ""
        self.after_reply: Callable[[Instance, Message], None] | None = None
        self._kept = kept
        self._kept_characters = kept_characters
        self._characters = 0
        self._instance_ids = itertools.count(1234)
        self._entry_ids = itertools.count(80_001)
        # Conversations, the newest last, so that the first is the one to forget.
        self._last_text: dict[tuple[str, str], float] = {}
        self._opted_out: dict[tuple[str, str], None] = {}

    def create_instance(
        self, element: str, name: str, configuration: Mapping[str, str], tags: Sequence[str]
    ) -> Instance:
        """Make an instance with a fresh token; entries that are not given have their defaults."""
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
        self.gone_at = ""
        self.configure(instance, DEFAULTS | dict(configuration))
        return instance

    def configure(self, instance: Instance, changes: Mapping[str, str]) -> None:
        """Set configuration entries of an instance."""
        of_events = {ENABLED, instance.kind.callback_url}
        events = {key: value for key, value in changes.items() if key in of_events}
        changed = events.items() - instance.configuration.items()
        for key, value in changes.items():
            instance.configuration[key] = value
            if key not in instance.entry_ids:
                instance.entry_ids[key] = next(self._entry_ids)
        if changed or (events and not instance.subscription.active):
            # Whoever says again where events go, or that they are wanted, has them from now on.
            instance.subscription = Subscription(seen=self.serial)
        self.tell_standing()

    def rotate(self, instance: Instance) -> None:
        """Give an instance a new token."""
        del self.by_token[instance.token]
        instance.token = base64.b64encode(secrets.token_bytes(32)).decode()
        self.by_token[instance.token] = instance

    def delete_instance(self, instance: Instance) -> None:
        """Forget an instance; its token is refused from now on."""
        del self.instances[instance.id]
        del self.by_token[instance.token]
        self.mappings.forget(instance.id)
        if not self.instances:
            self.gone_at = now_iso()
        self.tell_standing()

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
        text.opted_out = conversation in self._opted_out
        text.network_answer = answer_of_network(word, ours, opted_out=text.opted_out)
        if word in opt_out.STOP and opt_out.LONG_CODE.fullmatch(ours):
            self._remember(self._opted_out, conversation, None)
        elif word in opt_out.START:
            self._opted_out.pop(conversation, None)
        self._remember(self._last_text, conversation, text.moment_s)
        self._add(text)
        return text

    def is_opted_out(self, theirs: str, ours: str) -> bool:
        """Tell whether somebody asked for no more texts from a number of ours."""
        return (theirs, ours) in self._opted_out

    def add_reply(
        self,
        instance: Instance,
        theirs: str,
        ours: str,
        body: str,
        media: Sequence[str],
        *,
        status_callback: str = "",
    ) -> Message:
        """Note a reply that an instance's token opened the door for.

        status_callback: where Twilio reports on it, "" for nowhere of its own.
        """
        sid = new_sid("MM" if media else "SM")
        reply = Message(sid, theirs, ours, "reply", body, list(media), now_iso(), "received")
        reply.status_callback = status_callback
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

    def refuse(self, theirs: str, ours: str, status: int, reason: str) -> None:
        """Note with a conversation's newest text that a reply was refused, and tell the pages.

        status: 0 where no answer was given. reason: a Twilio error with its code, or a sentence.
        """
        for message in itertools.islice(reversed(self.messages), REFUSED_WITHIN):
            if (message.theirs, message.ours, message.direction) == (theirs, ours, "text"):
                message.refused = f"{status or 'no answer'}, {reason}"[:NOTE_CHARACTERS]
                self.changed(message)
                return

    def wire(
        self,
        direction: str,
        summary: str,
        status: int,
        took_ms: float,
        exchange: Exchange,
        *,
        note: str = "",
    ) -> None:
        """Keep a request that crossed the wire, and tell the pages of it.

        direction: "callback" (to the service) or "request" (to the connector). summary: method and
        path. status: 0 without an answer. note: what was wrong.
        """
        row = {
            "at": now_iso(),
            "direction": direction,
            "summary": summary[:NOTE_CHARACTERS],
            "status": status,
            "ms": round(took_ms, 1),
            "note": note[:NOTE_CHARACTERS],
        }
        self.feed.publish("wire", self.wire_log.add(row, exchange))

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

    def messages_after(self, serial: int, count: int) -> list[Message]:
        """Return the messages that came after one, the next `count` of them, oldest first."""
        newest_first = reversed(self.messages)
        behind = list(itertools.takewhile(lambda message: message.serial > serial, newest_first))
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
                    "events": each.subscription.state,
                }
                for each in self.instances.values()
            ],
            "callbacks": list(self.callbacks),
            "replies": [each for each in self.messages if each.direction == "reply"],
            "refusals": list(self.refusals),
        }

    def _add(self, message: Message) -> None:
        self.serial += 1
        message.serial = self.serial
        if len(self.messages) == self.messages.maxlen:
            self._characters -= _characters(self.messages.popleft())
        self.messages.append(message)
        self._characters += _characters(message)
        while self._characters > self._kept_characters:
            self._characters -= _characters(self.messages.popleft())
        self.changed(message)

    def _remember(
        self, known: dict[tuple[str, str], Value], conversation: tuple[str, str], value: Value
    ) -> None:
        known.pop(conversation, None)
        known[conversation] = value
        if len(known) > self._kept:
            del known[next(iter(known))]

    @property
    def standing(self) -> Standing:
        """Whom the phones text just now."""
        return Standing(self.our_number, self.gone_at, self.service)

    def tell_standing(self) -> None:
        """Tell the pages whom they text just now."""
        self.feed.publish("provisioned", self.standing)


def _characters(message: Message) -> int:
    return len(message.body) + sum(map(len, message.media))


def strip_html(text: str) -> str:
    """Remove tags, as the platform does from names and tags."""
    return re.sub(r"<[^>]*>", "", text)
