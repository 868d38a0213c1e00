"""The sandbox's own API, under /sandbox/: texts from a phone, what happened, trouble switches."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from service.lab.sandbox.answers import Refused, answer_error, answer_json
from service.lab.sandbox.message import new_sid
from service.lab.sandbox.messages import ADDRESS_LIMIT, MEDIA_LIMIT, URL_LIMIT
from service.lab.sandbox.network import Network
from service.lab.sandbox.polling import Poller
from service.lab.sandbox.records import Records
from service.lab.sandbox.standing import Service
from service.lab.sandbox.switches import Switches
from service.lab.sandbox.trouble import Trouble

HEARTBEAT_S = 15.0
"""Below the idle time-out of proxies and browsers."""

PHONES_SHOWN = 200
MESSAGES_SHOWN = 500
"""Most phones, and messages of each, in /sandbox/threads: what a page can draw after a load test.
/sandbox/records has all."""

REPLIES_SHOWN = 5_000
"""Most replies in one page of /sandbox/replies: about a megabyte."""

TEXT_LIMIT = 10_000
"""Characters of a text: more than any phone sends."""

Body = TypeVar("Body")

NOWHERE = "http://127.0.0.1:9/"
"""An address at which nobody listens."""

NO_INSTANCE = "no service has provisioned an instance yet"


Url = Annotated[str, msgspec.Meta(max_length=URL_LIMIT)]
Short = Annotated[str, msgspec.Meta(max_length=ADDRESS_LIMIT)]


class Text(msgspec.Struct, forbid_unknown_fields=True):
    """A text from a phone. to: our number, the instance's unless said; sid: made up unless said.

    at: when it was sent (ISO 8601, UTC), now unless said. lost: no callback reached anybody.
    """

    body: Annotated[str, msgspec.Meta(max_length=TEXT_LIMIT)] = ""
    from_: Annotated[str, msgspec.Meta(min_length=1, max_length=ADDRESS_LIMIT)] = msgspec.field(
        name="from", default="+15005550123"
    )
    to: Short = ""
    media: Annotated[list[Url], msgspec.Meta(max_length=MEDIA_LIMIT)] = []
    sid: Short = ""
    at: Short = ""
    lost: bool = False


class Meddling(msgspec.Struct, forbid_unknown_fields=True):
    """A change behind the service's back."""

    what: Literal["disable", "delete", "rotate", "callback"]


class Control:
    """The endpoints of /sandbox/."""

    def __init__(self, records: Records, network: Network, poller: Poller) -> None:
        self._records = records
        self._network = network
        self._poller = poller

    def routes(self) -> list[Route]:
        """Every resource."""
        return [
            Route("/sandbox/texts", self._text, methods=["POST"]),
            Route("/sandbox/threads", self._threads),
            Route("/sandbox/records", self._all),
            Route("/sandbox/replies", self._replies),
            Route("/sandbox/events", self._events),
            Route("/sandbox/service", self._service, methods=["POST"]),
            Route("/sandbox/wire", self._wire),
            Route("/sandbox/wire/{id:int}", self._exchange),
            Route("/sandbox/trouble", self._trouble, methods=["POST"]),
            Route("/sandbox/rotate", self._rotate, methods=["POST"]),
            Route("/sandbox/meddle", self._meddle, methods=["POST"]),
            Route("/sandbox/poll", self._poll, methods=["POST"]),
            Route("/sandbox/switches", self._switches, methods=["GET", "POST"]),
        ]

    async def _text(self, request: Request) -> Response:
        """Send a text from a phone; answered when its callback is."""
        try:
            text = await _read(request, Text)
            _check_moment(text.at)
        except Refused as error:
            return answer_error(error)
        instance = self._records.instance_for(text.to)
        ours = text.to or (instance.our_number if instance else "")
        sid = text.sid or new_sid("MM" if text.media else "SM")
        message = self._records.add_text(sid, text.from_, ours, text.body, text.media)
        status = 0
        if text.at:
            message.at = text.at
        if text.lost:
            message.state, message.detail = "failed", "no callback reached the service"
            self._records.changed(message)
        elif instance is None:
            message.state, message.detail = "failed", NO_INSTANCE
            self._records.changed(message)
        else:
            status = await self._network.deliver(instance, message)
        return answer_json(
            {
                "sid": sid,
                "status": status,
                "state": message.state,
                "detail": message.detail,
                "warning": message.warning,
            }
        )

    async def _threads(self, request: Request) -> Response:
        threads = self._records.threads(PHONES_SHOWN, MESSAGES_SHOWN)
        standing = msgspec.structs.asdict(self._records.standing)
        return answer_json({**standing, "threads": threads})

    async def _all(self, request: Request) -> Response:
        return answer_json(self._records.as_json())

    async def _replies(self, request: Request) -> Response:
        """Replies in order of arrival, a page at a time: `?after=<arrival>&count=<most>`."""
        try:
            after, count = (int(request.query_params.get(name, "0")) for name in ("after", "count"))
        except ValueError:
            return answer_error(Refused(400, "after and count are whole numbers"))
        replies = self._records.replies_after(after, min(count, REPLIES_SHOWN)) if count > 0 else []
        rows = [{"arrival": r.arrival, "body": r.body, "moment_s": r.moment_s} for r in replies]
        return answer_json({"received": self._records.replies_received, "replies": rows})

    async def _events(self, request: Request) -> Response:
        if self._records.feed.full:
            return answer_error(Refused(503, "too many pages are open", retry_after_s=10))
        last = request.headers.get("last-event-id", "")
        return StreamingResponse(
            self._records.feed.follow(last, HEARTBEAT_S),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    async def _service(self, request: Request) -> Response:
        """Take what the service's operator tells the phones of it: POST the fields of `Service`."""
        try:
            self._records.service = await _read(request, Service)
        except Refused as error:
            return answer_error(error)
        self._records.tell_standing()
        return answer_json(self._records.service)

    async def _wire(self, request: Request) -> Response:
        """The newest requests that crossed the wire, oldest first. Ids are of one `run`."""
        return answer_json({"run": self._records.feed.run, "rows": self._records.wire_log.rows()})

    async def _exchange(self, request: Request) -> Response:
        """One of them with what it and its answer said, secrets masked."""
        found = self._records.wire_log.show(request.path_params["id"])
        if found is None:
            return answer_error(Refused(404, "It is too long ago; the sandbox has forgotten it"))
        return answer_json(found)

    async def _rotate(self, request: Request) -> Response:
        """Give every instance a new token; the former ones are worth nothing from then on."""
        for instance in self._records.instances.values():
            self._records.rotate(instance)
        return answer_json({"rotated": len(self._records.instances)})

    async def _meddle(self, request: Request) -> Response:
        """Change the newest instance as somebody in the connector's console would."""
        try:
            what = (await _read(request, Meddling)).what
        except Refused as error:
            return answer_error(error)
        instance = self._records.phone_instance
        if instance is None:
            return answer_error(Refused(409, NO_INSTANCE))
        match what:
            case "disable":
                instance.disabled = True
            case "delete":
                self._records.delete_instance(instance)
            case "rotate":
                self._records.rotate(instance)
            case "callback":
                self._records.configure(instance, {instance.kind.callback_url: NOWHERE})
        return answer_json({"instance": instance.id, "done": what})

    async def _poll(self, request: Request) -> Response:
        """Poll at once for every instance that wants events, whatever `relay` says."""
        return answer_json({"polled": await self._poller.poll()})

    async def _trouble(self, request: Request) -> Response:
        """Make the next calls fail: POST the fields of `Trouble`; `{"count": 0}` ends it."""
        try:
            self._records.trouble = await _read(request, Trouble)
        except Refused as error:
            return answer_error(error)
        return answer_json(self._records.trouble)

    async def _switches(self, request: Request) -> Response:
        """Read the standing behaviours; POST changes those it names (see `Switches`)."""
        if request.method == "POST":
            try:
                change = await _read(request, dict[str, bool | str | float])
                now = msgspec.structs.asdict(self._records.switches) | change
                self._records.switches = msgspec.convert(now, Switches)
                self._poller.follow()
            except Refused as error:
                return answer_error(error)
            except msgspec.ValidationError as error:
                return answer_error(Refused(400, str(error)))
        return answer_json(self._records.switches)


def _check_moment(at: str) -> None:
    try:
        if at:
            datetime.fromisoformat(at)
    except ValueError:
        raise Refused(400, f"at: {at[:40]} is no time in ISO 8601") from None


async def _read(request: Request, type_: type[Body]) -> Body:
    try:
        return msgspec.json.decode(await request.body(), type=type_)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(400, str(error)) from error
