"""`parley check`: a start without its end, see `operate.checking`."""

from __future__ import annotations

from pathlib import Path

from service.handlers.loading import load_router
from service.host.embedded import find_server
from service.operate.checking import Findings, LoadedHandlers, check
from service.settings.table import Settings


def check_start() -> Findings:
    """Find what would keep `parley serve` from starting here, but for what others hold (ports)."""
    return check(_load, _find_needed)


def _load(target: str, config_dir: Path) -> LoadedHandlers:
    router = load_router(target, config_dir)
    return LoadedHandlers(router.routes, tuple(router.doubts))


def _find_needed(settings: Settings) -> None:
    if not settings.redis_url:
        find_server()
