"""Servers the connector's tests talk to: the platform as documented, and ones that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Literal

from aiohttp import web

from service.connector.client import MESSAGE_NAMES, Connector
from service.connector.peer import Access
from service.connector.provisioning import INSTANCE_NAMES, Provisioner, Wanted
from service.core.open_connectors.templates import Template
from service.core.sealing import Sealer
from service.host.bounded import bounded
from service.host.crowd import Crowd
from service.host.listeners import AppServer, listen
from service.lab.sandbox.app import SandboxConfig, sandbox_app
from service.model import Conversation, Instance, MessageSid, Outbound, Reply
from service.store.instances import Instances

CONFIG = Path(__file__).parents[2] / "config"
BASE = "/elements/api-v2"
USER, ORGANIZATION = "user-secret", "organization-secret"
AUTH_TOKEN = "twilio-auth-token"
KEY = "a secret key of thirty-two characters"
CHANGED = ("name", "tags", "configuration")
OURS, THEIRS = "+15005550100", "+15005550123"

Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass(frozen=True)
class Seen:
    """One request as it arrived; path: below the base, with its query."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


@dataclass
class Platform:
    """Open Connectors as documented, for /instances and /hubs/messaging/messages.

    instances: by id, secrets and all. messages: the log, newest first, as Twilio's resource.
    overrides: answers given to the next requests instead, first come first served.
    headers: sent with every answer. page_limit: most rows of a page, whatever pageSize asks for.
    refused_size: a pageSize from which on it answers `size_status`.
    where: what it makes of `where`.
    left_out: fields that the list of instances and GET /instances/{id} don't tell.
    list_left_out: those that the list alone does not. filter_tags: what it makes of `tags[]`.
    tag_objects: tags come as {id, name}. no_entries: the list of entries is 404.
    refusal: status, message and providerMessage of every answer to an instance token.
    media: rows of every message's attachments.
    formulas: those that use an instance, by its id. formulas_refused: the answer instead of them.
    gate: while it is not set, requests that have arrived wait for their answers.
    """

    url: str = ""
    instances: dict[str, dict[str, Any]] = field(default_factory=dict)
    messages: list[dict[str, Any]] = field(default_factory=list)
    overrides: list[web.Response] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    page_limit: int = 1_000
    refused_size: int = 10_000
    size_status: int = 400
    where: Literal["honoured", "ignored", "matches nothing", "refused"] = "honoured"
    left_out: frozenset[str] = frozenset()
    list_left_out: frozenset[str] = frozenset()
    filter_tags: Literal["honoured", "ignored"] = "honoured"
    tag_objects: bool = False
    no_entries: bool = False
    refused_method: str = ""
    refusal: tuple[int, str, str | None] | None = None
    media: list[dict[str, Any]] = field(default_factory=list)
    formulas: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    formulas_refused: web.Response | None = None
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    seen: list[Seen] = field(default_factory=list)
    connections: set[Any] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.gate.set()

    def said(self, method: str, path: str) -> list[Seen]:
        """The requests of one method ("" for any) whose path begins so."""
        return [
            each
            for each in self.seen
            if each.method.startswith(method) and each.path.startswith(path)
        ]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer any request."""
        raw = await request.read()
        body = json.loads(raw) if raw else None
        path = request.path_qs.removeprefix(BASE)
        self.seen.append(Seen(request.method, path, dict(request.headers), body))
        self.connections.add(request.transport)
        await self.gate.wait()
        response = self.overrides.pop(0) if self.overrides else self._documented(request, body)
        response.headers.update(self.headers)
        return response

    def _documented(self, request: web.Request, body: Any) -> web.Response:
        parts = request.path.removeprefix(BASE).strip("/").split("/")
        authorization = request.headers.get("Authorization", "")
        if not authorization.startswith(f"User {USER}, Organization {ORGANIZATION}"):
            return failure(401, "Invalid Organization or User secret")
        if parts[0] == "instances":
            if request.method == self.refused_method:
                return failure(403, "not for you")
            return self._instances(request, parts[1:], body)
        if parts == ["formulas", "instances"]:
            using = self.formulas.get(request.query["elementInstanceId"], [])
            return self.formulas_refused or web.json_response(using)
        token = authorization.partition(", Element ")[2]
        instance = next((i for i in self.instances.values() if i["token"] == token), None)
        if instance is None:
            return failure(401, "Invalid Element token")
        if self.refusal is not None:
            return failure(*self.refusal)
        if instance["disabled"]:
            return failure(403, "Element instance is disabled")
        if parts == ["ping"]:
            return web.json_response({"endpoint": "twilio", "dateTime": "2026-05-04T12:00:00Z"})
        if parts[-1] == "media":
            return web.json_response(self.media)
        if request.method == "GET":
            return self._log(request.query)
        return web.json_response({"sid": f"SM{len(self.seen)}", "status": "queued"})

    def _log(self, query: Mapping[str, str]) -> web.Response:
        size = int(query.get("pageSize", "20"))
        rows = self.messages
        if where := query.get("where"):
            if self.where == "refused":
                return failure(400, "where is not supported")
            found = re.fullmatch(r"DateSent='(\d{4}-\d\d-\d\d)'", where)
            assert found, where
            if self.where == "honoured":
                rows = [each for each in rows if day_of(each) == found[1]]
            elif self.where == "matches nothing":
                rows = []
        if size >= self.refused_size:
            return failure(self.size_status, "pageSize refused")
        size = min(size, self.page_limit)
        first = (int(query.get("page", "1")) - 1) * size
        return web.json_response(rows[first : first + size])

    def _instances(self, request: web.Request, rest: list[str], body: Any) -> web.Response:
        if not rest and request.method == "POST":
            id_ = len(self.seen) + 1_000
            self.instances[str(id_)] = {
                "id": id_,
                "token": f"token-{id_}=",
                "valid": True,
                "disabled": False,
                "element": {"id": 7, "name": "Twilio SMS", "key": "twilio"},
                **{name: body[name] for name in ("name", "tags", "configuration")},
            }
            return web.json_response(masked(self.instances[str(id_)]))
        if not rest:
            tag = request.query.get("tags[]")
            if self.filter_tags == "ignored":
                tag = None
            found = [i for i in self.instances.values() if tag is None or tag in i["tags"]]
            if tag is not None and not found:
                return failure(404, "No element instances found")
            left_out = self.left_out | self.list_left_out
            return web.json_response([self._told(each, left_out) for each in found])
        instance = self.instances.get(rest[0])
        if instance is None:
            return failure(404, f"No element instance found with id {rest[0]}")
        if rest[1:] == ["configuration"] and self.no_entries:
            return failure(404, "No configuration found")
        if rest[1:] == ["configuration"]:
            entries = enumerate(masked(instance)["configuration"].items(), start=1)
            return web.json_response(
                [{"id": id_, "key": key, "propertyValue": value} for id_, (key, value) in entries]
            )
        if rest[1:] == ["enabled"]:
            instance["disabled"] = request.method == "DELETE"
            return web.json_response(masked(instance))
        if request.method in {"PUT", "PATCH"}:
            instance |= {name: body[name] for name in CHANGED if name in body}
        if request.method == "DELETE":
            del self.instances[rest[0]]
            return web.Response()
        return web.json_response(self._told(instance, self.left_out))

    def _told(self, instance: dict[str, Any], left_out: frozenset[str]) -> dict[str, Any]:
        told = {key: each for key, each in masked(instance).items() if key not in left_out}
        if self.tag_objects and "tags" in told:
            told["tags"] = [{"id": n, "name": tag} for n, tag in enumerate(told["tags"], start=1)]
        return told


def day_of(row: dict[str, Any]) -> str | None:
    """The day (UTC) of a row of the log; None for what is queued."""
    sent = row["date_sent"]
    return parsedate_to_datetime(sent).astimezone(UTC).date().isoformat() if sent else None


def masked(instance: dict[str, Any]) -> dict[str, Any]:
    """The instance as it reads back: the Twilio token hidden."""
    configuration = {**instance["configuration"], "messaging.sms.twilio.token": "********"}
    return {**instance, "configuration": configuration}


def failure(
    status: int, message: str, provider_message: str | None = None, **headers: str
) -> web.Response:
    """An error answer as documented."""
    body = {"requestId": "56a1e4b2e4b0a7ce7a5e6f0d", "message": message}
    if provider_message is not None:
        body["providerMessage"] = provider_message
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return web.json_response(body, status=status, headers=named)


@contextlib.asynccontextmanager
async def running_platform() -> AsyncIterator[Platform]:
    """Run a platform on a free port of loopback."""
    platform = Platform()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", platform.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    platform.url = f"http://127.0.0.1:{runner.addresses[0][1]}{BASE}"
    try:
        yield platform
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def running_sandbox(user: str = USER, organization: str = ORGANIZATION) -> AsyncIterator[str]:
    """Run the real sandbox on a free port of loopback; yields its base URL."""
    listener = listen("127.0.0.1", 0, "PORT")
    stop = asyncio.Event()
    app = sandbox_app(SandboxConfig(user_secret=user, organization_secret=organization))
    running = asyncio.create_task(
        AppServer(app, listener, stop_s=1, http=bounded(Crowd())).run_until(stop)
    )
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}{BASE}"
    finally:
        stop.set()
        await running


@contextlib.asynccontextmanager
async def misbehaving(behaviour: Behaviour) -> AsyncIterator[str]:
    """Run a server that treats each connection so; yields its base URL."""
    tasks: list[asyncio.Task[None] | None] = []
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(asyncio.current_task())
        writers.append(writer)
        await behaviour(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}{BASE}"
    finally:
        server.close()
        # Nothing of a server may outlive its test, or a later one is blamed for it.
        for task in tasks:
            if task is not None:
                task.cancel()
        await asyncio.gather(*filter(None, tasks), return_exceptions=True)
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def connected(
    base_url: str, *, token: str | None = None, timeout_s: float = 5, user_secret: str = USER
) -> AsyncIterator[Connector]:
    """Open a client; token: of the instance to speak as."""
    connector = Connector(
        Access(base_url, user_secret, ORGANIZATION),
        message=template("message.json", MESSAGE_NAMES),
        timeout_s=timeout_s,
        connections=8,
        secrets=(AUTH_TOKEN,),
    )
    if token is not None:
        connector.use_token(token)
    try:
        yield connector
    finally:
        await connector.aclose()


def template(name: str, names: frozenset[str]) -> Template:
    """A template that ships."""
    path = CONFIG / name
    return Template(path.read_text(), place=str(path), names=names)


def wanted(**changes: str) -> Wanted:
    """The instance that the shipped template describes."""
    values = {
        "TWILIO_ACCOUNT_SID": "AC" + "0" * 32,
        "TWILIO_AUTH_TOKEN": AUTH_TOKEN,
        "TWILIO_SENDER": OURS,
        "CALLBACK_URL": "https://sms.example.com/callbacks/twilio",
        "INSTANCE_NAME": "parley",
        "INSTANCE_TAG": "parley",
    }
    shipped = template("instance.json", INSTANCE_NAMES)
    return Wanted.build(shipped, values | changes, "instance.json")


def outbound(body: str = "hi", media: tuple[str, ...] = ()) -> Outbound:
    """A reply to send."""
    return Outbound(Conversation(OURS, THEIRS), Reply(body, media), MessageSid("SM1"), 0)


def provisioner(connector: Connector, store: Instances, what: Wanted | None = None) -> Provisioner:
    """One process's provisioner."""
    return Provisioner(connector, store, Sealer([KEY]), what or wanted())


async def ensured(platform: Platform, store: Instances, what: Wanted | None = None) -> Instance:
    """Provision as one start of the service does."""
    async with connected(platform.url) as connector:
        return await provisioner(connector, store, what).ensure()
