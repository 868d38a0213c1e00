from __future__ import annotations

from typing import Any

import pytest

from service.web.door.public import public_app

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("path", ["/callbacks/twilio", "/sms/callbacks/twilio"])
async def test_callbacks_arrive_with_and_without_the_public_urls_prefix(
    front: Any, path: str
) -> None:
    """Some proxies strip the prefix, some don't; either way texts must come in."""
    front.path = path
    assert (await front.post(front.fields())).status_code == 200
    assert len(await front.stored()) == 1


@pytest.mark.parametrize("path", ["/healthz", "/sms/healthz"])
async def test_liveness_is_told_without_asking_redis(open_front: Any, path: str) -> None:
    """An orchestrator that restarts us for Redis's outage makes it worse."""
    front = await open_front(redis_url="unix:///nowhere/redis.sock")
    response = await front.client.get(path)
    assert (response.status_code, response.json()) == (200, {"status": "ok"})
    assert (await front.client.head(path)).status_code == 200
    refused = await front.client.post(path)
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/readyz",
        "/metrics",
        "/callbacks",
        "/callbacks/twilio/",
        "/other/callbacks/twilio",
        "//",
    ],
)
async def test_nothing_else_is_on_the_public_listener(front: Any, path: str) -> None:
    """What the internet can't reach, it can't break into."""
    response = await front.client.get(path)
    assert response.status_code == 404
    assert response.headers["content-type"] == "text/plain"


async def test_an_encoded_prefix_is_served_as_servers_decode_it(front: Any, serve: Any) -> None:
    """Servers hand over decoded paths; a prefix with a blank in it must still match."""
    app = public_app(front.door, callback_path="/callbacks/twilio", prefix="/a%20b/")
    async with serve(app) as address:
        response = await front.client.post(f"{address}/a%20b/callbacks/twilio")
    assert response.status_code == 415
