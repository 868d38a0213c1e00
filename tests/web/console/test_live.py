"""The overview as it changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from service.operate import console
from service.web.console import live
from service.web.internal.app import Check
from tests.web.console.conftest import field_of

pytestmark = pytest.mark.anyio

LIVE = "/console/overview/live"


async def blocks(response: Any) -> AsyncIterator[str]:
    """Yield what a stream sends, an event or a comment each."""
    left = ""
    async for text in response.aiter_text():
        left += text
        while "\n\n" in left:
            block, _, left = left.partition("\n\n")
            yield block


async def next_with(stream: AsyncIterator[str], words: str) -> str:
    """Read on to what has these words in it."""
    async with asyncio.timeout(10):
        async for block in stream:
            if words in block:
                return block
    raise AssertionError(f"the stream ended without {words!r}")


async def test_a_change_is_told_and_what_stays_is_not_sent_again(desk: Any, operator: Any) -> None:
    """The operator would look at what was true minutes ago."""
    async with operator.stream("GET", LIVE) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] == "no-store"
        stream = blocks(response)
        first = await anext(stream)
        assert "<h2>Ready</h2>" in first
        assert all(line.startswith("data: ") for line in first.split("\n"))
        assert await anext(stream) == ": nothing new"
        desk.checks = {"redis": Check(ok=False, detail="no answer within 2 s")}
        assert "Redis: no answer within 2 s" in await next_with(stream, "Not ready")


async def test_it_needs_a_session(browser: Any) -> None:
    """Whoever may not see the page could watch it."""
    answer = await browser.get(LIVE)
    assert (answer.status_code, answer.text) == (401, "sign in first")


async def test_it_ends_with_its_session(desk: Any, operator: Any) -> None:
    """Whoever was put out would go on watching."""
    (session,) = await console.sessions(desk.redis)
    async with operator.stream("GET", LIVE) as response:
        stream = blocks(response)
        await anext(stream)
        await console.end_session(desk.redis, session.id)
        assert "event: signed-out" in await next_with(stream, "signed-out")
        assert [block async for block in stream] == []


async def test_watching_does_not_keep_a_session_alive(desk: Any, operator: Any) -> None:
    """A tab that was forgotten would be signed in all day."""
    async with operator.stream("GET", LIVE) as response:
        stream = blocks(response)
        await anext(stream)
        (before,) = await console.sessions(desk.redis)
        for _ in range(3 * live.SESSION_EVERY):
            await anext(stream)
    (after,) = await console.sessions(desk.redis)
    assert after.seen == before.seen
    await operator.get("/console/keyboard")
    (active,) = await console.sessions(desk.redis)
    assert active.seen > before.seen


async def test_it_ends_when_the_process_stops(desk: Any, operator: Any) -> None:
    """A stop would wait for whoever has the page open."""
    async with operator.stream("GET", LIVE) as response:
        stream = blocks(response)
        await anext(stream)
        desk.ending.set()
        async with asyncio.timeout(5):
            assert [block async for block in stream if "data" in block] == []


async def test_there_are_only_so_many(
    desk: Any, operator: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Open tabs would keep probes out of the listener, which they share."""
    monkeypatch.setattr(live, "STREAMS_LIMIT", 1)
    async with asyncio.timeout(20):
        async with operator.stream("GET", LIVE) as response:
            # Held on to: what reads a stream closes it when nobody does.
            stream = blocks(response)
            await anext(stream)
            refused = await operator.get(LIVE)
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "30")
            await anext(stream)
        # Its end is noticed when it is next written to.
        status = 503
        while status == 503:
            async with operator.stream("GET", LIVE) as response:
                status = response.status_code
            await asyncio.sleep(0.02)
    assert status == 200


async def test_the_token_of_the_page_is_the_session_s(operator: Any) -> None:
    """A fragment that replaced a form would carry one of its own."""
    page = (await operator.get("/console")).text
    assert field_of(page, "csrf")
    assert "csrf" not in page.partition('id="live"')[2].partition("by-command")[0]
