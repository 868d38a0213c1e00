"""What signing in leaves in Redis and in the audit trail, and what it needs of Redis."""

from __future__ import annotations

from typing import Any

import pytest

from service.core.proofs import digest_of
from service.errors import StoreUnavailable
from service.operate.audit import note, trail
from service.operate.console import (
    end_session,
    has_password,
    make_token,
    session_of,
    sessions,
    set_password,
    sign_in_by_password,
    sign_in_by_token,
)
from service.store.connection import connect
from tests.operate.pieces import HERE, PASSWORD, THERE, come_in, refusal
from tests.store.pieces import configure
from tests.workers.test_keys import forms_of

pytestmark = pytest.mark.anyio


async def everything_in(client: Any) -> dict[str, tuple[str, bool, str]]:
    """Read every key: its type, whether it ends, and all that it holds, as text."""
    read = {
        "string": client.get,
        "hash": client.hgetall,
        "zset": lambda key: client.zrange(key, 0, -1, withscores=True),
        "stream": client.xrange,
    }
    found = {}
    async for raw in client.scan_iter("*"):
        kind, ends = (await client.type(raw)).decode(), await client.pttl(raw) != -1
        found[raw.decode()] = kind, ends, repr(await read[kind](raw))
    return found


async def test_no_secret_is_in_redis_and_every_key_is_written_down(client: Any) -> None:
    """Whoever reads a backup of Redis would be an operator; or finds what nobody has explained."""
    unused = await make_token(client)
    used = await make_token(client)
    cookie, session = await sign_in_by_token(client, used, **HERE)
    await set_password(client, PASSWORD)
    second, _ = await sign_in_by_password(client, PASSWORD, **HERE)
    await refusal(sign_in_by_password(client, "a wrong password", **THERE))
    await refusal(sign_in_by_token(client, "a-wrong-token", **THERE))
    await session_of(client, cookie)

    found = await everything_in(client)
    held = "".join(f"{key} {text}" for key, (_, _, text) in found.items())
    for secret in (unused, used, cookie, second, session.csrf, PASSWORD, "a wrong", "a-wrong"):
        assert secret not in held
    # The search would find them: what may be there is.
    for there in (digest_of(unused), digest_of(cookie), session.id, "argon2id"):
        assert there in held
    assert {key: forms_of(key) for key in found if len(forms_of(key)) != 1} == {}
    forms = {key: (forms_of(key)[0].type, bool(forms_of(key)[0].lives)) for key in found}
    assert forms == {key: (kind, ends) for key, (kind, ends, _) in found.items()}
    assert {forms_of(key)[0].name.partition("}:")[2] for key in found} == {
        *("passwords", "sessions", "session:<cookie>", "token:<token>", "tries"),
        *("tries:<network>", "trail", "refusals", "refusals:<network>"),
    }


async def test_sign_ins_and_refusals_are_in_the_trail(client: Any) -> None:
    """Nobody would know who was in, nor that somebody tries."""
    _, session = await come_in(client)
    await set_password(client, PASSWORD)
    for _ in range(9):
        await refusal(sign_in_by_password(client, "wrong", **THERE))
    refused, came_in = await trail(client)
    assert came_in.who == f"operator by one-time address, session {session.id}"
    assert (came_in.via, came_in.what, came_in.about) == ("console", "sign in", "from 127.0.0.1")
    assert (refused.who, refused.what) == ("somebody", "sign-in refused")
    assert refused.about == "by password from 192.0.2.66"
    assert refused.outcome == "that is not the password"


async def test_a_full_redis_can_still_be_looked_at(client: Any) -> None:
    """The console is opened because Redis is full, and nobody could sign in."""
    await set_password(client, PASSWORD)
    await configure(client, "maxmemory", "1")
    try:
        with pytest.raises(Exception, match=r"OOM|maxmemory"):
            await client.set("parley:probe", "it is full indeed")
        cookie, session = await come_in(client)
        await sign_in_by_password(client, PASSWORD, **HERE)
        await refusal(sign_in_by_password(client, "wrong", **THERE))
        assert await session_of(client, cookie) is not None
        await set_password(client, "something new 1")
        await note(client, who="root@host", via="command", what="dead drop")
        assert await end_session(client, session.id)
    finally:
        await configure(client, "maxmemory", "0")
    assert (await trail(client))[0].what == "dead drop"


async def test_without_redis_the_error_says_so(client: Any, redis_server: str) -> None:
    """A page would show a traceback of redis-py's."""
    nobody = connect("redis://127.0.0.1:1")
    for asked in (
        make_token(nobody),
        session_of(nobody, "x"),
        sessions(nobody),
        has_password(nobody),
        sign_in_by_token(nobody, "x", **HERE),
        trail(nobody),
    ):
        with pytest.raises(StoreUnavailable):
            await asked
    await nobody.aclose()
