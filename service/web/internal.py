"""The internal listener: readiness and liveness, for orchestrators and people of the house."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

log = structlog.get_logger()

READINESS_TIMEOUT_S = 5.0
"""An orchestrator's probe waits a second to ten; an answer that says what hangs helps more."""


@dataclass(frozen=True, slots=True)
class Check:
    """Whether one part of the service can do its work.

    ok: it can. detail: one sentence for people, above all when it can't; no secrets.
    """

    ok: bool
    detail: str = ""


Readiness = Callable[[], Awaitable[Mapping[str, Check]]]
"""Looks at every part, by its name ("redis", "instance", "handlers")."""


Counters = Callable[[], Mapping[str, int]]
"""What this process has counted since its start, and its `pid`."""


def internal_app(
    readiness: Readiness,
    counters: Counters = dict,
    *,
    timeout_s: float = READINESS_TIMEOUT_S,
) -> Starlette:
    """Make the application of the internal port.

    counters: shown at /counters.
    timeout_s: longest wait for `readiness`; beyond it the answer is "not ready".
    """

    async def readyz(request: Request) -> JSONResponse:
        try:
            async with asyncio.timeout(timeout_s):
                checks = await readiness()
        except TimeoutError:
            checks = {"readiness": Check(ok=False, detail=f"no answer within {timeout_s:g} s")}
        except Exception as error:  # noqa: BLE001  a probe wants an answer, above all then
            log.warning("readiness check failed", error=type(error).__name__)
            checks = {"readiness": Check(ok=False, detail=type(error).__name__)}
        ready = all(check.ok for check in checks.values())
        return JSONResponse(
            {
                "ready": ready,
                "checks": {
                    name: {"ok": check.ok, "detail": check.detail} for name, check in checks.items()
                },
            },
            status_code=200 if ready else 503,
        )

    async def healthz(request: Request) -> JSONResponse:
        return JSONResponse({"status": "ok"})

    async def count(request: Request) -> JSONResponse:
        return JSONResponse(dict(counters()))

    return Starlette(
        routes=[
            Route("/readyz", readyz),
            Route("/healthz", healthz),
            Route("/counters", count),
        ]
    )
