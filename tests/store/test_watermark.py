"""Up to when nothing is missing, and since when anything could be."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from service.store.watermark import Watermark
from tests.store.pieces import Store

pytestmark = pytest.mark.anyio

BEGAN = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)


async def test_a_deployment_begins_once(store: Store) -> None:
    """After a restart nothing before it would be read back: the outage would be forgotten."""
    watermark = Watermark(store.client)
    assert await watermark.first(BEGAN) == BEGAN
    assert await watermark.first(BEGAN + timedelta(days=3)) == BEGAN


async def test_the_moment_is_kept_to_the_millisecond(store: Store) -> None:
    """Rounded up, it would pass over a text."""
    watermark = Watermark(store.client)
    assert await watermark.load() is None
    await watermark.save(BEGAN + timedelta(milliseconds=1_999))
    assert await watermark.load() == BEGAN + timedelta(milliseconds=1_999)
