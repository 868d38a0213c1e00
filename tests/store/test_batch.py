from __future__ import annotations

import asyncio
from typing import Any

import pytest

from service.store.batch import Batch
from service.store.connection import connect
from service.store.scripts import BEGIN

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("cancelled", [1, 2])
async def test_an_answer_in_the_very_turn_of_a_cancellation_is_heard(
    redis_server: str, monkeypatch: pytest.MonkeyPatch, cancelled: int
) -> None:
    """Whoever waits for it would wait for ever, and its partition with it: nobody could take it."""
    client = connect(redis_server)
    batch = Batch(client)
    done: list[Any] = []
    undone: list[bytes] = []

    async def undo(answer: bytes) -> None:
        undone.append(answer)

    # No real Redis answers just then.
    monkeypatch.setattr(batch, "submit", lambda *given: done.append(given[-1]))
    waiting = asyncio.create_task(batch.run_through(BEGIN, (), (), undo))
    await asyncio.sleep(0)
    for _ in range(cancelled):
        waiting.cancel()
        if cancelled > 1:
            await asyncio.sleep(0)
    done[0](b"begun", None)
    async with asyncio.timeout(2):
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert undone == [b"begun"]
    monkeypatch.undo()
    await batch.aclose()
    await client.aclose()
