from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from service.web.internal.app import Check, internal_app

pytestmark = pytest.mark.anyio


async def ask(serve: Any, readiness: Any, path: str = "/readyz") -> httpx.Response:
    """GET from an internal listener of its own."""
    async with (
        serve(internal_app(readiness, timeout_s=0.2)) as address,
        httpx.AsyncClient(base_url=address, trust_env=False) as client,
    ):
        return await client.get(path)


async def all_well() -> Mapping[str, Check]:
    """Every part can work."""
    return {"redis": Check(ok=True), "instance": Check(ok=True, detail="1234")}


async def not_provisioned() -> Mapping[str, Check]:
    """Redis can work, the instance can't."""
    return {"redis": Check(ok=True), "instance": Check(ok=False, detail="connector: 401")}


async def hanging() -> Mapping[str, Check]:
    """Never answer."""
    await asyncio.sleep(60)
    return {}


async def broken() -> Mapping[str, Check]:
    """Fail as a client library would."""
    raise RuntimeError("secret")


async def test_ready_means_every_part_is(serve: Any) -> None:
    """Traffic is sent to us by this answer."""
    response = await ask(serve, all_well)
    assert response.status_code == 200
    assert response.json() == {
        "ready": True,
        "checks": {
            "redis": {"ok": True, "detail": ""},
            "instance": {"ok": True, "detail": "1234"},
        },
    }


async def test_the_part_that_is_not_ready_is_named_with_its_reason(serve: Any) -> None:
    """A bare "not ready" sends the operator through three systems."""
    response = await ask(serve, not_provisioned)
    assert response.status_code == 503
    assert response.json()["ready"] is False
    assert response.json()["checks"]["instance"] == {"ok": False, "detail": "connector: 401"}
    assert response.json()["checks"]["redis"]["ok"] is True


async def test_a_check_that_hangs_is_an_answer_all_the_same(serve: Any) -> None:
    """A probe without an answer tells nobody what hangs."""
    response = await ask(serve, hanging)
    assert response.status_code == 503
    assert "0.2 s" in response.json()["checks"]["readiness"]["detail"]


async def test_a_check_that_breaks_is_not_ready_and_tells_no_secret(serve: Any) -> None:
    """An error's text may hold an address with a password in it."""
    response = await ask(serve, broken)
    assert response.status_code == 503
    assert response.json()["checks"]["readiness"]["detail"] == "RuntimeError"
    assert "secret" not in response.text


async def test_liveness_does_not_depend_on_readiness(serve: Any) -> None:
    """Restarting us mends nobody else."""
    response = await ask(serve, broken, "/healthz")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})


async def test_counters_are_those_of_the_process(serve: Any) -> None:
    """Round trips per message are worked out from two looks at them."""
    app = internal_app(all_well, lambda: {"pid": 7, "script_calls": 3})
    async with (
        serve(app) as address,
        httpx.AsyncClient(base_url=address, trust_env=False) as client,
    ):
        assert (await client.get("/counters")).json() == {"pid": 7, "script_calls": 3}


async def test_anything_else_is_refused_in_a_word(serve: Any) -> None:
    """A probe of a wrong path or method must not look like a service that is well."""
    async with (
        serve(internal_app(all_well)) as address,
        httpx.AsyncClient(base_url=address, trust_env=False) as client,
    ):
        assert (await client.get("/callbacks/twilio")).status_code == 404
        assert (await client.post("/readyz")).status_code == 405
        head = await client.head("/readyz")
        assert (head.status_code, head.content) == (200, b"")
