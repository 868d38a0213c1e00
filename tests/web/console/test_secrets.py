"""A search for secrets that somebody typed: in Redis, the log, the pages, the audit trail."""

from __future__ import annotations

import re
import secrets
from collections.abc import AsyncIterator
from html import unescape
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.operate import console
from service.operate.audit import trail
from service.operate.deployment import Deployment
from service.operate.instance import open_provisioner
from service.operate.setup import Setup
from service.settings.setup import SETUP_FIELDS, load_given
from service.store.connection import connect
from tests.connector.pieces import OURS, running_sandbox
from tests.web.console.conftest import Desk, Open, field_of
from tests.web.console.test_instance import PAGE, post

pytestmark = pytest.mark.anyio

WHOSE = ("user", "organization")

LINK = re.compile(r'(?:href|action|hx-[a-z:-]+)="(/console[^"]*)"')

LIVE = re.compile(r"/live$")
"""Streams, which never end."""


@pytest.fixture
def typed() -> dict[str, str]:
    """What is typed and nobody is to find: of this test alone, so that no other one leaves it."""
    return {
        "SECRET_KEY": secrets.token_urlsafe(40),
        "open_connectors_user_secret": secrets.token_urlsafe(24),
        "open_connectors_organization_secret": secrets.token_urlsafe(24),
        "twilio_auth_token": secrets.token_hex(16),
        "event_signature_key": secrets.token_hex(16),
        "password": secrets.token_urlsafe(16),
        "by the page": secrets.token_hex(16),
    }


@pytest.fixture
async def deployment(
    redis_server: str, typed: dict[str, str], desk_redis: Any
) -> AsyncIterator[Deployment]:
    """A deployment that was set up by what somebody typed, beside a sandbox of its own."""
    user, organization = (typed[f"open_connectors_{each}_secret"] for each in WHOSE)
    async with running_sandbox(user, organization) as base_url:
        login = f"parley:{typed['password']}x"
        given = load_given(
            None,
            {
                "PUBLIC_URL": f"https://{login}@sms.example.com",
                "SECRET_KEY": typed["SECRET_KEY"],
            },
        )
        setup = Setup(desk_redis, given)
        values = {
            "open_connectors_base_url": base_url,
            "twilio_account_sid": f"AC{'0' * 32}",
            "twilio_sender": OURS,
        } | {field: typed[field] for field in typed if field in SETUP_FIELDS}
        await setup.type(values, who="somebody")
        await setup.apply(who="somebody", via="console")
        await setup.type({"twilio_auth_token": values["twilio_auth_token"][::-1]}, who="somebody")
        yield Deployment(given.partial(), redis_server, given)


@pytest.fixture
async def desk_redis(redis_server: str) -> AsyncIterator[Any]:
    """A client of the Redis that is searched."""
    client = connect(redis_server)
    yield client
    await client.aclose()


async def walk(browser: httpx.AsyncClient) -> str:
    """Open every page that a link leads to from the overview; return all that was sent."""
    seen, left, said = set[str](), ["/console"], ""
    while left:
        path = left.pop()
        if path in seen or LIVE.search(path.partition("?")[0]) or "/static/" in path:
            continue
        seen.add(path)
        answer = await browser.get(path)
        said += f"{path}\n{answer.headers}\n{answer.text}\n"
        left += [unescape(each) for each in LINK.findall(answer.text)]
    assert {"/console", PAGE, "/console/audit"} <= seen
    return said


async def bytes_of(redis: Any, redis_url: str) -> str:
    """Return every key and value there is, and whatever was ever written, where that is a file."""
    said = ""
    readers = {
        b"string": redis.get,
        b"hash": redis.hgetall,
        b"zset": lambda key: redis.zrange(key, 0, -1),
        b"set": redis.smembers,
        b"stream": redis.xrange,
        b"list": lambda key: redis.lrange(key, 0, -1),
    }
    async for key in redis.scan_iter("*"):
        said += f"{key!r} {await readers[await redis.type(key)](key)!r}\n"
    if redis_url.startswith("unix://"):
        folder = Path(redis_url.removeprefix("unix://")).parent
        files = [file for file in folder.rglob("*") if file.suffix in {".aof", ".rdb"}]
        assert files, "the append-only file is searched as well"
        said += "".join(file.read_bytes().decode("latin-1") for file in files)
    return said


async def test_no_secret_that_was_typed_is_found_anywhere(
    open_desk: Open,
    deployment: Deployment,
    typed: dict[str, str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whoever reads a backup, a log or a page over a shoulder could act in our name."""
    desk: Desk = await open_desk(deployment=deployment)
    await console.set_password(desk.redis, typed["password"])
    async with desk.browser() as operator, desk.browser() as viewer:
        entered = await desk.enter(operator, password=typed["password"])
        assert entered.status_code == 303
        await desk.sign_in(viewer, "viewer")
        said = await walk(operator)
        for act in ("apply", "disable", "enable", "rotate"):
            done = await post(operator, f"{PAGE}/{act}")
            assert done.status_code == 303, done.text
        async with open_provisioner(deployment) as provisioner:
            token = (await provisioner.kept()).token
        await post(operator, f"{PAGE}/token", password=typed["password"][::-1])
        shown = await post(operator, f"{PAGE}/token", password=typed["password"])
        assert token in shown.text
        said += shown.text.replace(token, "")
        said += await walk(operator) + await walk(viewer)
        # By the pages of Connect as well: beside a mistake, without one, and then applied.
        for sender, status in (("0150 123", 400), (OURS, 303)):
            fields = {"twilio_auth_token": typed["by the page"], "twilio_sender": sender}
            answer = await post(operator, "/console/connect/twilio", **fields)
            assert answer.status_code == status, answer.text
            said += answer.text
        review = (await operator.get("/console/connect/review?plan")).text
        hidden_in = review.partition('action="/console/connect/apply"')[2]
        form = {name: field_of(hidden_in, name) for name in ("csrf", "seen")}
        applied = await operator.post("/console/connect/apply", data=form)
        assert applied.status_code == 303, applied.text
        said += await walk(operator)
    said += str(await trail(desk.redis, count=500))
    log = "".join(capsys.readouterr())
    kept = await bytes_of(desk.redis, deployment.redis_url)

    # What is no secret is found: the search would find the others.
    assert "As it should be" in said
    for title in ("Replace the instance", "Take an instance over", "Instance token"):
        assert f"<h1>{title}</h1>" in said
    assert "connector show --token" in said
    assert "instance created" in log
    assert "parley:{instance}:record" in kept
    assert "sms.example.com" in kept
    hidden = typed | {
        "token": token,
        "the draft's auth token": typed["twilio_auth_token"][::-1],
    }
    for name, secret in hidden.items():
        for place, text in {"pages and trail": said, "log": log, "Redis": kept}.items():
            assert secret not in unescape(text), (name, place)
