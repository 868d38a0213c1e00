"""Phones for an author's tests: a text goes in, and what the handlers answer comes back.

The router, the loop of handlers and the rules are the service's own. Redis, the connector and all
waiting are left out: a text is handled at once, and a failed attempt is followed by the next.
`wiring.pytest_plugin` makes the fixture `phones` of it.
"""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Self, TypeVar
from uuid import uuid4

from service.core.twilio import opt_out
from service.core.twilio.callback import parse_inbound, with_media
from service.core.twilio.error_codes import MEANINGS, OPTED_OUT
from service.errors import HandlerError, HandlerFailed
from service.handlers.failures import authors_part, full_text
from service.handlers.loop import HandlersLoop
from service.handlers.places import definition_of
from service.handlers.router import Choice, Router
from service.handlers.running import LongReplies, run_handler
from service.handlers.threads import DaemonThreads
from service.model import Conversation, Media, Message, Outbound, Reply

Result = TypeVar("Result")

ACCOUNT = "AC" + "0" * 32
"""The AccountSid that texts of a test come to."""

PICTURE = "image/jpeg"
"""The type of an attachment that a test gives the URL of alone."""

END_S = 5.0
"""What the engine's thread gets to end in; it is a daemon."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter: a text or a reply that was given up, as `parley dead` would show it.

    value: the message, or the reply on its way. route: of the message, "" for a reply.
    error: what is kept of the error, with the author's traceback.
    """

    value: Message | Outbound
    route: str
    error: str


class Engine:
    """Runs handlers as the service does: on a loop of theirs, asked for from another one.

    A context manager. new_loop: makes both loops. threads: for plain `def` handlers.
    """

    def __init__(self, new_loop: Callable[[], asyncio.AbstractEventLoop], threads: int) -> None:
        self._new_loop = new_loop
        self._executor = DaemonThreads(threads, "handler")
        self._loop = new_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="engine", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self.place = self.run(self._open())
        return self

    def __exit__(self, *_: object) -> None:
        self.run(self._close())
        self._executor.shutdown(wait=False)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(END_S)
        if not self._thread.is_alive():
            self._loop.close()

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run something on the engine's loop and wait for what it returns; from any thread."""
        __tracebackhide__ = True
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # Interrupted, perhaps: nobody waits for it any more.
            raise

    async def _open(self) -> HandlersLoop:
        return HandlersLoop(self._executor, self._new_loop)

    async def _close(self) -> None:
        self.place.let_go_of_all()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=1)
        await self.place.aclose()


class Phones:
    """The phones of one test, by their numbers: `phones("+15551230001")`.

    sender: our number, which they text unless they say otherwise. timeout_s: longest a handler may
        take. attempts: before a text is a dead letter. long_replies: what becomes of a text that is
        too long. opt_out_words: what Twilio answers itself. A test may change each of them.
    dead_letters: what was given up, in order.
    """

    def __init__(
        self,
        router: Router,
        engine: Engine,
        *,
        sender: str,
        timeout_s: float,
        attempts: int,
        long_replies: LongReplies,
        opt_out_words: Collection[str],
    ) -> None:
        self.sender = sender
        self.timeout_s = timeout_s
        self.attempts = attempts
        self.long_replies: LongReplies = long_replies
        self.opt_out_words = opt_out_words
        self.dead_letters: list[Letter] = []
        self._router = router
        self._engine = engine
        self._phones: dict[str, Phone] = {}
        self._opted_out: set[Conversation] = set()
        self._turns: defaultdict[Conversation, asyncio.Lock] = defaultdict(asyncio.Lock)

    def __call__(self, number: str) -> Phone:
        """Take the phone of this number: the same one each time."""
        if number not in self._phones:
            self._phones[number] = Phone(number, self)
        return self._phones[number]

    def handle(self, message: Message) -> list[Reply]:
        """Take a message through its handler; returns the replies that reach its phone.

        Raises what the handler raised in its last attempt, or HandlerTimedOut, HandlerMisbehaved.
        """
        __tracebackhide__ = True
        received, error = self._engine.run(self._in_turn(message))
        if error is not None:
            raise error
        return received

    async def _in_turn(self, message: Message) -> tuple[list[Reply], BaseException | None]:
        """Handle a message when those before it in its conversation are done.

        Returns what is received of its replies, and what its handler failed with.
        """
        conversation = message.conversation
        async with self._turns[conversation]:
            kind = opt_out.judge(
                opt_out.kind_of(message, self.opt_out_words),
                opted_out=conversation in self._opted_out,
            )
            choice = self._router.choose(message, answered=opt_out.is_answered(kind))
            if opt_out.opts_out(kind):
                self._opted_out.add(conversation)
            replies: tuple[Reply, ...] = ()
            failure = None
            if choice is not None:
                try:
                    replies = await self._attempt(choice, message)
                except HandlerError as error:
                    self.dead_letters.append(Letter(message, choice.route, full_text(error)))
                    failure = _as_raised(error, choice)
            if opt_out.opts_in(kind):
                self._opted_out.discard(conversation)
            return self._deliver(message, replies), failure

    async def _attempt(self, choice: Choice, message: Message) -> tuple[Reply, ...]:
        attempt = 1
        while True:
            try:
                return await run_handler(
                    choice,
                    message,
                    self._engine.place,
                    self.timeout_s,
                    long_replies=self.long_replies,
                )
            except HandlerError:
                if attempt >= self.attempts:
                    raise
                attempt += 1

    def _deliver(self, message: Message, replies: Sequence[Reply]) -> list[Reply]:
        """Hand the replies to the phone, unless Twilio would refuse them."""
        conversation = message.conversation
        if conversation not in self._opted_out:
            self(message.from_).replies.extend(replies)
            return list(replies)
        error = f"{OPTED_OUT}: {MEANINGS[OPTED_OUT].means}"
        for index, reply in enumerate(replies):
            outbound = Outbound(conversation, reply, message.sid, index)
            self.dead_letters.append(Letter(outbound, "", error))
        return []


class Phone:
    """Somebody's phone.

    replies: all that it received, texts and pictures, in order.
    """

    def __init__(self, number: str, phones: Phones) -> None:
        self.number = number
        self.replies: list[Reply] = []
        self._phones = phones

    @property
    def received(self) -> list[str]:
        """The texts that it received, in order; "" for a picture alone."""
        return [reply.body for reply in self.replies]

    def send(
        self,
        body: str = "",
        *,
        to: str | None = None,
        media: Sequence[str | Media] = (),
        recovered: bool = False,
        parameters: Mapping[str, str] | None = None,
    ) -> list[str]:
        """Send a text, and wait until it is handled; returns the texts received in answer.

        to: our number, that of the fixture by default. media: attachments; of one whose URL alone
            is given the type is image/jpeg. recovered: no callback brought it.
        parameters: of the callback, further ones, such as OptOutType.
        Raises what the handler raised in its last attempt; HandlerTimedOut, HandlerMisbehaved.
        """
        __tracebackhide__ = True
        if isinstance(media, str):
            raise TypeError('media is one text; write a list of URLs: media=["https://..."]')
        attached = [each if isinstance(each, Media) else Media(each, PICTURE) for each in media]
        sid = ("MM" if attached else "SM") + uuid4().hex
        fields = {
            "MessageSid": sid,
            "AccountSid": ACCOUNT,
            "From": self.number,
            "To": self._phones.sender if to is None else to,
            "Body": body,
            "NumMedia": str(len(attached)),
            "SmsStatus": "received",
            **(parameters or {}),
        }
        message = parse_inbound(with_media(fields, attached), datetime.now(UTC))
        replies = self._phones.handle(replace(message, recovered=recovered))
        return [reply.body for reply in replies]


def _as_raised(error: HandlerError, choice: Choice) -> BaseException:
    """Return what the test is to see: the author's own error, if it is one that tests catch."""
    cause = error.__cause__
    if isinstance(error, HandlerFailed) and isinstance(cause, Exception):
        return cause.with_traceback(authors_part(cause))
    error.add_note(f"the handler is at {definition_of(choice.handler)}")
    return error.with_traceback(None)
