"""The Open Connectors API over one shared HTTP client; nothing else makes requests of it."""

from __future__ import annotations

import json
import re
import ssl
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from functools import partial
from typing import Any
from urllib.parse import quote, urlencode

from service.connector.http import Client, HttpAnswer, NoAnswer, NotSent
from service.connector.log_pages import LogPages
from service.connector.message_log import MessageLog
from service.connector.peer import (
    MESSAGES,
    NOT_PROVISIONED,
    SHORTEST,
    Access,
    Peer,
    ways_to_write,
    without,
)
from service.core.clocks import RemoteClock
from service.core.open_connectors import wire
from service.core.open_connectors.echoes import Private, mask_secrets, read_content_type
from service.core.open_connectors.error_answers import read_error, request_id_of
from service.core.open_connectors.templates import Template
from service.core.open_connectors.wire import InstanceAnswer, LoggedMessage
from service.errors import (
    ConnectorError,
    ConnectorFailed,
    ConnectorGone,
    ConnectorUnanswered,
    ConnectorUnreachable,
    ConnectorUnreadable,
)
from service.model import Conversation, Media, Outbound

CONNECT_TIMEOUT_S = 5.0
NOT_SET_UP = "the connector is not set up"
TURNED = "the setup of the connector has changed meanwhile"

YEARS = range(2000, 2500)
"""Of a Date that is believed; near the ends of the calendar it can't be reckoned with."""

DATE_S = 2.0
"""How old a Date may be: it has whole seconds, and some servers write it anew once in one."""

MESSAGE_NAMES = frozenset({"from", "to", "body", "media"})
"""Placeholders of `config/message.json`."""

SID = re.compile(r"[\w.:-]{1,64}")
"""What is kept as a sid. What is longer, or has blanks in it, may quote our header."""


class Connector:
    """Open Connectors, as one user of one organization.

    access: where it is, and who we are there; None until `turn_to` tells.
    message: template of a reply's body.
    timeout_s: longest wait for one answer. connections: most requests at once.
    secrets: kept out of errors besides those that requests carry, such as Twilio's.
    clock: the platform's, told by the Date of its answers. otherwise: what counts as it where they
        have none.
    tls: for https, instead of the system's authorities.
    Raises ValueError, without its text, when a proxy's address is none.
    Every method raises ConnectorError, of the kind that says what may be done next.
    """

    def __init__(
        self,
        access: Access | None,
        *,
        message: Template,
        timeout_s: float,
        connections: int,
        secrets: Collection[str] = (),
        clock: RemoteClock | None = None,
        otherwise: RemoteClock | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._clock = clock or RemoteClock()
        self._otherwise = otherwise or RemoteClock()
        self._message = message
        self._timeout_s = timeout_s
        self._connections = connections
        self._tls = tls
        self._secrets: tuple[str, ...] = ()
        self._private = Private(())
        self.keep_private(*secrets)
        self._peer: Peer | None = None
        if access is not None:
            self._meet(access)

    async def turn_to(self, access: Access, message: Template) -> None:
        """Send there, and so, from now on; a token of there is told by `use_token`.

        Requests under way end where they were sent; what takes several, such as reading the log,
        fails. Where the access stays the same, so do its connections and the token.
        """
        self._message = message
        if self.reaches(access):
            return
        former = self._peer
        self._meet(access)
        if former is not None:
            await former.http.aclose()

    def reaches(self, access: Access) -> bool:
        """Tell whether this is where requests go already."""
        return self._peer is not None and self._peer.access == access

    def use_token(self, instance_token: str) -> None:
        """Send with this instance token from now on."""
        self._present().use_token(instance_token)
        self.keep_private(instance_token)

    def keep_private(self, *secrets: str) -> None:
        """Keep these out of errors and ids, too, from now on: whichever request quotes them."""
        self._secrets = tuple(dict.fromkeys((*self._secrets, *secrets)))
        self._private = Private(self._secrets)

    async def aclose(self) -> None:
        """Close every connection."""
        if self._peer is not None:
            await self._log.aclose()
            await self._peer.http.aclose()

    def moment(self, at: float) -> datetime:
        """Tell what the platform's clock showed at a time of ours (time.monotonic), or a bit less.

        By the Date of its answers; where there was none yet, by `otherwise` or this machine's
        clock. The dates of its message log are Twilio's: the two are taken to agree within the
        slack that whoever compares them allows (`service.core.delivery.CLOCK_SLACK`).
        """
        for clock in (self._clock, self._otherwise):
            if clock.lowest is not None:
                return datetime.fromtimestamp(at + clock.lowest, UTC)
        return datetime.fromtimestamp(at + time.time() - time.monotonic(), UTC)

    async def create_instance(self, body: Mapping[str, Any]) -> InstanceAnswer:
        """POST /instances; the answer carries the instance token."""
        answer = await self._ask_platform("POST", "/instances", body)
        instance = wire.read_instance(self._read(answer))
        if instance is None or not instance.token:
            raise ConnectorFailed(
                "POST /instances was answered without an id and a token",
                request_id=request_id_of(answer.headers, self._private),
            )
        return instance

    async def update_instance(self, id_: str, body: Mapping[str, Any]) -> None:
        """PUT /instances/{id}: name, tags and configuration."""
        await self.call_platform("PUT", f"/instances/{quote(id_, safe='')}", body)

    async def delete_instance(self, id_: str) -> None:
        """DELETE /instances/{id}; its token is worth nothing afterwards."""
        await self.call_platform("DELETE", f"/instances/{quote(id_, safe='')}")

    async def enable_instance(self, id_: str, *, on: bool) -> None:
        """PUT or DELETE /instances/{id}/enabled: switch it on or off."""
        path = f"/instances/{quote(id_, safe='')}/enabled"
        await self.call_platform("PUT" if on else "DELETE", path)

    async def describe_instance(self, id_: str) -> Any:
        """GET /instances/{id}/docs: the instance's own API description, as JSON."""
        return await self.call_platform("GET", f"/instances/{quote(id_, safe='')}/docs")

    async def find_instances(self, tag: str) -> list[InstanceAnswer]:
        """GET /instances?tags[]=...: the instances that may carry a tag.

        The platform may ignore the filter. Where it finds none it answers 404.
        """
        query = urlencode({"tags[]": tag})
        try:
            return wire.read_instances(await self.call_platform("GET", f"/instances?{query}"))
        except ConnectorGone:
            return []

    async def formulas_using(self, id_: str) -> list[str]:
        """GET /formulas/instances?elementInstanceId=...: names of the formulas on an instance."""
        query = urlencode({"elementInstanceId": id_})
        names = wire.read_formulas(await self.call_platform("GET", f"/formulas/instances?{query}"))
        if names is None:
            raise ConnectorFailed("the list of formulas was answered with something that is none")
        return names

    async def ping(self) -> None:
        """GET /ping: ask whether the instance works, with its token."""
        await self._instance("GET", "/ping")

    async def get_instance(self, id_: str) -> InstanceAnswer | None:
        """GET /instances/{id}; None when the connector does not know it.

        Its configuration is asked for by itself where that answer leaves it out.
        """
        path = f"/instances/{quote(id_, safe='')}"
        try:
            found = wire.read_instance(await self.call_platform("GET", path))
        except ConnectorGone:
            return None
        if found is None or found.configuration:
            return found
        try:
            rows = await self.call_platform("GET", f"{path}/configuration")
        except ConnectorGone:
            # The instance is there: taken for gone, another would be made at every look.
            return found
        return replace(found, configuration=wire.read_configuration(rows))

    async def send(self, outbound: Outbound, before_write: Callable[[], None]) -> str:
        """POST a reply; returns the connector's sid for it.

        before_write: called at the last moment; what it raises ends the request unsent.
        """
        body = self._message.render(
            {
                "from": outbound.conversation.ours,
                "to": outbound.conversation.theirs,
                "body": outbound.reply.body,
                "media": outbound.reply.media,
            }
        )
        private = Private(
            self._private.secrets,
            texts=(outbound.reply.body, *outbound.reply.media),
            numbers=outbound.conversation,
        )
        peer = self._present()
        if peer.messages is None:
            raise ConnectorUnreachable(NOT_PROVISIONED)
        posting = peer.http.post(peer.messages, body, before_write, timeout_s=self._timeout_s)
        answer = await self._answered(posting, peer.ours, private)
        try:
            sid = wire.read_sid(self._read(answer))
        except ConnectorFailed:
            # Success said in JSON, though damaged, is the connector's word; a page is not.
            if "json" not in answer.headers.get("content-type", ""):
                raise
            sid = None
        # Accepted without a sid: it is out, so anything but an answer would send it again.
        named = sid is not None and SID.fullmatch(sid)
        return sid if sid and named else f"unnamed-{outbound.reply_to}-{outbound.index}"

    async def sent_to(self, conversation: Conversation, since: datetime) -> Sequence[LoggedMessage]:
        """Read the log of messages to one number of theirs, newest first, back to `since`.

        since: aware. Raises ConnectorFailed when the log can't be read back that far: it is too
            long, or paging is ignored; ConnectorUnreadable when its rows tell nothing.
        """
        self._present()
        return await self._log.sent_to(conversation.theirs, since)

    def log_between(
        self, since: datetime, until: datetime | None = None
    ) -> AsyncGenerator[Sequence[LoggedMessage]]:
        """Read the whole log page by page; see `service.connector.log_pages.LogPages.between`."""
        self._present()
        return self._pages.between(since, until)

    async def media_of(self, sid: str) -> tuple[Media, ...]:
        """GET /messages/{sid}/media: the attachments of a message."""
        path = f"{MESSAGES}/{quote(sid, safe='')}/media"
        return wire.read_media(self._read(await self._instance("GET", path)))

    async def _log_page(
        self, peer: Peer, page: int, size: int, day: date | None
    ) -> list[LoggedMessage]:
        if peer is not self._peer:
            # One page of another account's log among those of this one's would tell nothing.
            raise ConnectorUnreachable(TURNED)
        query = {"page": str(page), "pageSize": str(size)}
        if day is not None:
            query["where"] = f"DateSent='{day.isoformat()}'"
        path = f"{MESSAGES}?{urlencode(query, quote_via=quote)}"
        answer = await self._instance("GET", path)
        try:
            return wire.read_log(self._read(answer))
        except ConnectorUnreadable as error:
            error.request_id = request_id_of(answer.headers, self._private)
            raise

    async def call_platform(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> Any:
        """Ask the platform itself, with the user's secrets; returns the answer's JSON."""
        return self._read(await self._ask_platform(method, path, body))

    async def exchange(
        self, method: str, path: str, body: bytes = b""
    ) -> tuple[HttpAnswer, ConnectorError | None]:
        """Send any request as the instance: the answer of whatever status, and the error it is.

        path: below the API's base, encoded. What the answer repeats of our secrets is masked; for
        other ways to write them see `without_secrets`. Raises ConnectorError without an answer.
        """
        peer = self._present()
        asking = peer.http.request(method, peer.as_instance(path), body, timeout_s=self._timeout_s)
        answer = await self._received(asking, ways_to_write(*self._secrets))
        return answer, self._error_in(answer, self._private)

    def without_secrets(self, value: Any) -> Any:
        """Mask our secrets in a text, or in all texts of some JSON, however they are written."""
        return mask_secrets(value, [each for each in self._secrets if len(each) >= SHORTEST])

    async def _ask_platform(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> HttpAnswer:
        raw = b"" if body is None else json.dumps(body).encode()
        private = Private((*self._private.secrets, *wire.private_entries(body or {})))
        peer = self._present()
        asking = peer.http.request(method, peer.as_user(path), raw, timeout_s=self._timeout_s)
        # The platform's answers tell the token on purpose; an instance's have no business to.
        return await self._answered(asking, peer.login, private)

    async def _instance(self, method: str, path: str) -> HttpAnswer:
        peer = self._present()
        asking = peer.http.request(method, peer.as_instance(path), timeout_s=self._timeout_s)
        return await self._answered(asking, peer.ours, self._private)

    def _present(self) -> Peer:
        if self._peer is None:
            raise ConnectorUnreachable(NOT_SET_UP)
        return self._peer

    def _meet(self, access: Access) -> None:
        http = Client(
            access.base_url,
            connections=self._connections,
            connect_timeout_s=min(CONNECT_TIMEOUT_S, self._timeout_s),
            tls=self._tls,
            proxy=access.proxy,
        )
        peer = Peer(access, http)
        # What a log understands is learnt of each connector.
        self._pages = LogPages(partial(self._log_page, peer))
        self._log = MessageLog(self._pages, self._now)
        self._peer = peer
        self.keep_private(access.user_secret, access.organization_secret)

    async def _answered(
        self, asking: Awaitable[HttpAnswer], ours: Sequence[str], private: Private
    ) -> HttpAnswer:
        """Wait for a success, without what it repeats of our secrets (`ours`)."""
        answer = await self._received(asking, ours)
        if error := self._error_in(answer, private):
            raise error
        return answer

    async def _received(self, asking: Awaitable[HttpAnswer], ours: Sequence[str]) -> HttpAnswer:
        asked = time.monotonic()
        try:
            answer = await asking
        except NotSent as error:
            raise ConnectorUnreachable(str(error)) from error
        except NoAnswer as error:
            raise ConnectorUnanswered(str(error)) from error
        self._note_date(answer.headers, asked)
        return without(ours, answer)

    def _error_in(self, answer: HttpAnswer, private: Private) -> ConnectorError | None:
        if 200 <= answer.status < 300:
            return None
        return read_error(answer.status, answer.headers, answer.body, self._now(), private)

    def _note_date(self, headers: Mapping[str, str], asked: float) -> None:
        """Learn what the platform's clock shows, unless the answer comes out of a cache."""
        date = None if "age" in headers else wire.read_date(headers.get("date", ""))
        if date is not None and date.year in YEARS:
            self._clock.told(date.timestamp(), asked, time.monotonic(), DATE_S)

    def _now(self) -> datetime:
        return self.moment(time.monotonic())

    def _read(self, answer: HttpAnswer) -> Any:
        """Read an answer's JSON, None when it is empty.

        Raises ConnectorFailed for anything else, such as a sign-in or maintenance page: whether
            anything was done is as open as without an answer.
        """
        try:
            return json.loads(answer.body) if answer.body else None
        except (ValueError, RecursionError) as error:
            kind = read_content_type(answer.headers.get("content-type", ""), self._private)
            raise ConnectorFailed(
                f"answered with something other than JSON ({kind})",
                request_id=request_id_of(answer.headers, self._private),
            ) from error
