"""Open Connectors as far as Parley uses it: instances and messages, errors as it words them.

Source: SAP Open Connectors documentation of /instances and /hubs/messaging/messages.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from service.sandbox.records import PREFIX, Instance, Message, Records, new_sid

BASE = "/elements/api-v2"
REQUIRED = tuple(
    f"{PREFIX}{name}" for name in ["protocol", "account", "sender", "token", "callback.url"]
)
SECRET_ENTRIES = frozenset({f"{PREFIX}token"})
MASK = "********"
PAGE_SIZE = 50
PAGE_LIMIT = 200
ELEMENT = {"id": 7, "name": "Twilio SMS", "key": "twilio", "active": True, "deleted": False}

Endpoint = Callable[[Request], Awaitable[Response]]


class Refused(Exception):
    """The platform answers with an error."""

    def __init__(
        self, status: int, message: str, *, provider: str = "", retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.provider = provider
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class Secrets:
    """The credentials of the one user the sandbox knows."""

    user: str
    organization: str


class Platform:
    """The endpoints. `routes` are for Starlette; `send` serves POST messages without it."""

    def __init__(self, records: Records, credentials: Secrets) -> None:
        self._records = records
        self._credentials = credentials

    def routes(self) -> list[Route]:
        """Every resource, hub names of any kind included."""
        one = f"{BASE}/instances/{{id:int}}"
        table: list[tuple[str, dict[str, Endpoint]]] = [
            (f"{BASE}/instances", {"POST": self._create, "GET": self._list}),
            (one, {"GET": self._get, "PUT": self._put, "DELETE": self._delete}),
            (f"{one}/enabled", {"PUT": self._enable, "DELETE": self._disable}),
            (f"{BASE}/ping", {"GET": self._ping}),
        ]
        for prefix in (BASE, f"{BASE}/hubs/{{hub}}"):
            table.append((f"{prefix}/messages", {"GET": self._log}))
            table.append((f"{prefix}/messages/{{sid}}", {"GET": self._message}))
        return [
            Route(path, _endpoint(methods), methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
            for path, methods in table
        ]

    async def send(self, headers: Mapping[bytes, bytes], body: bytes) -> tuple[Response, bool]:
        """Serve POST messages; returns the answer and whether to reset instead of giving it."""
        began = time.perf_counter()
        trouble = self._records.trouble.take()
        reset = False
        try:
            instance = self._instance_of(headers.get(b"authorization", b"").decode("latin-1"))
            if trouble is not None and trouble.hang:
                await asyncio.sleep(3600)
            if trouble is not None and trouble.status:
                text = f"trouble switched on: {trouble.status}"
                raise Refused(trouble.status, text, retry_after_s=trouble.retry_after_s)
            answer = self._accept(instance, headers.get(b"content-type", b""), body)
            if trouble is not None:
                reset = trouble.reset
                await asyncio.sleep(trouble.latency_ms / 1000)
        except Refused as error:
            answer = _error(error)
        took_ms = (time.perf_counter() - began) * 1000
        self._records.wire("request", "POST /messages", answer.status_code, took_ms)
        return answer, reset

    def _accept(self, instance: Instance, content_type: bytes, body: bytes) -> Response:
        if not content_type.startswith(b"application/json"):
            raise Refused(415, "The Content-Type must be application/json")
        try:
            sent = msgspec.json.decode(body)
        except msgspec.DecodeError as error:
            raise Refused(400, f"Invalid JSON: {error}") from error
        if not isinstance(sent, dict):
            raise Refused(400, "The body must be a JSON object")
        to = str(sent.get("To") or sent.get("to") or "")
        ours = str(sent.get("From") or sent.get("from") or instance.our_number)
        text = str(sent.get("Body") or sent.get("message") or sent.get("body") or "")
        media = sent.get("MediaUrl") or sent.get("media") or []
        media = [media] if isinstance(media, str) else list(media)
        if not to:
            provider = "21604: A 'To' phone number is required."
            raise Refused(400, "Request failed", provider=provider)
        if not text and not media:
            provider = "21602: Message body is required."
            raise Refused(400, "Request failed", provider=provider)
        if len(text) > 1600:
            provider = "21617: The concatenated message body exceeds the 1600 character limit."
            raise Refused(400, "Request failed", provider=provider)
        reply = self._records.add_reply(new_sid(), to, ours, text, media)
        row = _row(reply) | {"id": reply.sid, "status": "queued", "sentTime": reply.at}
        return _json(row, instance)

    async def _create(self, request: Request) -> Response:
        self._authorize(request)
        body = await _object(request)
        key = str((body.get("element") or {}).get("key") or "")
        if key != "twilio":
            raise Refused(404, f"No element found with key {key or '(none)'}")
        configuration = body.get("configuration") or {}
        missing = [name for name in REQUIRED if not str(configuration.get(name) or "").strip()]
        if missing:
            raise Refused(400, f"Missing required configuration entries: {', '.join(missing)}")
        if not str(body.get("name") or "").strip():
            raise Refused(400, "The field 'name' is required")
        instance = self._records.create_instance(
            key, str(body["name"]), configuration, _tags(body.get("tags"))
        )
        return _json(_shown(instance) | {"token": instance.token}, instance)

    async def _list(self, request: Request) -> Response:
        self._authorize(request)
        wanted = request.query_params.getlist("tags[]")
        found = self._records.instances.values()
        return JSONResponse([_shown(each) for each in found if set(wanted) <= set(each.tags)])

    async def _get(self, request: Request) -> Response:
        instance = self._find(request)
        return _json(_shown(instance), instance)

    async def _put(self, request: Request) -> Response:
        instance = self._find(request)
        body = await _object(request)
        if "name" in body:
            instance.name = str(body["name"])
        if "tags" in body:
            instance.tags = _tags(body["tags"])
        for name, value in (body.get("configuration") or {}).items():
            if value != MASK:
                instance.configuration[name] = str(value)
        return _json(_shown(instance), instance)

    async def _delete(self, request: Request) -> Response:
        instance = self._find(request)
        self._records.delete_instance(instance)
        return _json({}, instance)

    async def _enable(self, request: Request) -> Response:
        instance = self._find(request)
        instance.disabled = False
        return _json(_shown(instance), instance)

    async def _disable(self, request: Request) -> Response:
        instance = self._find(request)
        instance.disabled = True
        return _json(_shown(instance), instance)

    async def _ping(self, request: Request) -> Response:
        instance = self._instance_of(request.headers.get("authorization", ""))
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return _json({"dateTime": now, "endpoint": instance.element}, instance)

    async def _log(self, request: Request) -> Response:
        instance = self._instance_of(request.headers.get("authorization", ""))
        query = request.query_params
        size = min(_number(query.get("pageSize"), PAGE_SIZE), PAGE_LIMIT)
        start = (_number(query.get("page"), 1) - 1) * size
        matches = _where(query.get("where", ""))
        rows = [row for row in map(_row, reversed(self._records.messages)) if matches(row)]
        return _json(rows[start : start + size], instance)

    async def _message(self, request: Request) -> Response:
        instance = self._instance_of(request.headers.get("authorization", ""))
        sid = request.path_params["sid"]
        for message in reversed(self._records.messages):
            if message.sid == sid:
                return _json(_row(message), instance)
        raise Refused(404, f"No message found with sid {sid}", provider="20404: Not found")

    def _authorize(self, request: Request) -> None:
        given = _credentials(request.headers.get("authorization", ""))
        if (given.get("User"), given.get("Organization")) != (
            self._credentials.user,
            self._credentials.organization,
        ):
            raise Refused(401, "Invalid Organization or User secret, or invalid Element token")

    def _instance_of(self, header: str) -> Instance:
        given = _credentials(header)
        instance = self._records.by_token.get(given.get("Element", ""))
        organization = given.get("Organization", self._credentials.organization)
        if (
            instance is None
            or given.get("User") != self._credentials.user
            or organization != self._credentials.organization
        ):
            raise Refused(401, "Invalid Organization or User secret, or invalid Element token")
        if instance.disabled:
            raise Refused(403, "The element instance is disabled")
        return instance

    def _find(self, request: Request) -> Instance:
        self._authorize(request)
        id_ = request.path_params["id"]
        instance = self._records.instances.get(id_)
        if instance is None:
            raise Refused(404, f"No element instance found with id {id_}")
        return instance


def unknown_path(path: str) -> Response:
    """Answer for a path there is none of."""
    return _error(Refused(404, f"No resource found for {path}"))


def _endpoint(methods: Mapping[str, Endpoint]) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        serve = methods.get(request.method)
        try:
            if serve is None:
                raise Refused(405, f"Method {request.method} is not supported here")
            return await serve(request)
        except Refused as error:
            return _error(error)

    return endpoint


async def _object(request: Request) -> dict[str, Any]:
    if not request.headers.get("content-type", "").startswith("application/json"):
        raise Refused(415, "The Content-Type must be application/json")
    try:
        body = msgspec.json.decode(await request.body())
    except msgspec.DecodeError as error:
        raise Refused(400, f"Invalid JSON: {error}") from error
    if not isinstance(body, dict):
        raise Refused(400, "The body must be a JSON object")
    return body


def _error(error: Refused) -> Response:
    body = {"requestId": secrets.token_hex(12), "message": error.message}
    if error.provider:
        body["providerMessage"] = error.provider
    headers = {}
    if error.retry_after_s is not None:
        headers["Retry-After"] = f"{error.retry_after_s:g}"
    return JSONResponse(body, error.status, headers)


def _json(body: Any, instance: Instance) -> Response:
    return Response(
        msgspec.json.encode(body),
        media_type="application/json",
        headers={"elements-element-instance-id": str(instance.id)},
    )


def _shown(instance: Instance) -> dict[str, Any]:
    """An instance as it reads back: secrets masked, the token left out."""
    configuration = {
        name: MASK if name in SECRET_ENTRIES else value
        for name, value in instance.configuration.items()
    }
    return {
        "id": instance.id,
        "name": instance.name,
        "element": ELEMENT,
        "provisionInteractions": [],
        "valid": True,
        "disabled": instance.disabled,
        "maxCacheSize": 0,
        "cacheTimeToLive": 0,
        "cachingEnabled": False,
        "configuration": configuration,
        "tags": instance.tags,
    }


def _row(message: Message) -> dict[str, Any]:
    """A message as Twilio's Message resource."""
    inbound = message.direction == "text"
    ends = (message.theirs, message.ours) if inbound else (message.ours, message.theirs)
    return {
        "sid": message.sid,
        "from": ends[0],
        "to": ends[1],
        "body": message.body,
        "direction": "inbound" if inbound else "outbound-api",
        "status": "received" if inbound else "delivered",
        "date_sent": format_datetime(datetime.fromisoformat(message.at)),
        "num_media": str(len(message.media)),
    }


def _credentials(header: str) -> dict[str, str]:
    """Read `User x, Organization y, Element z`; an Element token may hold any character."""
    found = re.findall(r"(User|Organization|Element)\s+([^,\s]+)", header)
    return dict(found)


def _tags(raw: Any) -> list[str]:
    return [str(tag) for tag in raw if tag] if isinstance(raw, list) else []


def _number(text: str | None, default: int) -> int:
    return max(1, int(text)) if text and text.isdigit() else default


def _where(clause: str) -> Callable[[Mapping[str, Any]], bool]:
    """Read `DateSent='2026-01-31' and To='+1...'`; unknown fields match nothing."""
    terms = re.findall(r"(\w+)\s*=\s*'([^']*)'", clause)

    def matches(row: Mapping[str, Any]) -> bool:
        return all(_matches(row, name, value) for name, value in terms)

    return matches


def _matches(row: Mapping[str, Any], name: str, value: str) -> bool:
    if name.lower() in {"datesent", "date_sent"}:
        sent = datetime.strptime(row["date_sent"], "%a, %d %b %Y %H:%M:%S %z")
        return sent.date().isoformat() == value[:10]
    return bool(row.get(name.lower()) == value)
