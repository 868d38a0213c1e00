"""The internal listener: readiness, liveness and metrics, for whoever watches over the service."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass

import msgspec
import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.core.tally import Figures
from service.host.answers import AsgiApp, Receive, Scope, Send
from service.web.internal import metrics
from service.web.internal.visitors import guarded

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


ReadCounters = Callable[[], Mapping[str, int]]
"""What this process has counted since its start, and its `pid`."""


Gather = Callable[[], Awaitable[Figures]]
"""Gathers the figures of all processes and of what waits in Redis."""


async def _nothing() -> Figures:
    return Figures()


def internal_app(
    readiness: Readiness,
    counters: ReadCounters = dict,
    gather: Gather = _nothing,
    *,
    hosts: Collection[str] = (),
    timeout_s: float = READINESS_TIMEOUT_S,
    console: AsgiApp | None = None,
) -> AsgiApp:
    """Make the application of the internal port.

    counters: shown at /counters. gather: shown at /metrics.
    hosts: names it may be asked for by, as `service.web.internal.visitors.guarded` says.
    timeout_s: longest wait for `readiness`; beyond it the answer is "not ready".
    console: answers what is below /console, with a guard of its own; None leaves it out.
    """

    async def ready(_: Request) -> Response:
        checks = await answered(readiness, timeout_s)
        well = all(check.ok for check in checks.values())
        return _json({"ready": well, "checks": checks}, status=200 if well else 503)

    async def live(_: Request) -> Response:
        return _json({"status": "ok"})

    async def count(_: Request) -> Response:
        return _json(counters())

    async def measure(_: Request) -> Response:
        # In a thread: with many partitions it is tens of milliseconds, and callbacks wait.
        text = await asyncio.to_thread(metrics.render, await gather())
        return Response(text, headers={"content-type": metrics.CONTENT_TYPE})

    pages = {"/readyz": ready, "/healthz": live, "/counters": count, "/metrics": measure}
    app = Starlette(routes=[Route(path, page, methods=["GET"]) for path, page in pages.items()])
    probes = guarded(app, hosts)
    return probes if console is None else _beside(probes, console)


async def answered(
    readiness: Readiness, timeout_s: float = READINESS_TIMEOUT_S
) -> Mapping[str, Check]:
    """Look at every part; one that hangs or breaks is an answer too."""
    try:
        async with asyncio.timeout(timeout_s):
            return await readiness()
    except TimeoutError:
        return {"readiness": Check(ok=False, detail=f"no answer within {timeout_s:g} s")}
    except Exception as error:  # noqa: BLE001  a probe wants an answer, above all then
        log.warning("readiness check failed", error=type(error).__name__)
        return {"readiness": Check(ok=False, detail=type(error).__name__)}


def _beside(probes: AsgiApp, console: AsgiApp) -> AsgiApp:
    async def choose(scope: Scope, receive: Receive, send: Send) -> None:
        ours = scope["type"] == "http" and scope["path"].split("/", 2)[1:2] == ["console"]
        await (console if ours else probes)(scope, receive, send)

    return choose


def _json(value: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")
