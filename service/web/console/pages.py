"""The pages of those who are signed in: views from values to templates."""

from __future__ import annotations

import re
import shlex
from functools import partial

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from service.operate.audit import note, trail
from service.operate.console import Session, end_session, sessions
from service.store.client import Redis
from service.web.console.glance import Glance
from service.web.console.live import Streams
from service.web.console.members import Members, who
from service.web.console.paths import SESSIONS, SIGN_IN
from service.web.console.rendering import Renderer

ACTS = 50
"""Entries of the audit trail on one page."""

ENTRY_ID = re.compile(r"[0-9]{1,20}-[0-9]{1,20}")

SEARCH_LIMIT = 100


class Pages:
    """What somebody who is signed in sees."""

    def __init__(
        self, redis: Redis, renderer: Renderer, glance: Glance, streams: Streams, members: Members
    ) -> None:
        self._redis = redis
        self._renderer = renderer
        self._glance = glance
        self._streams = streams
        self._members = members

    async def overview(self, request: Request, session: Session) -> Response:
        """Show how the deployment stands."""
        overview = await self._glance.look()
        return self._renderer.page(request, "overview", session, overview=overview)

    async def live(self, request: Request, session: Session) -> Response:
        """Go on showing it, for as long as the session lasts."""
        return self._streams.answer(self._fragment, partial(self._members.lasts, request))

    async def _fragment(self) -> str:
        return self._renderer.fragment("overview_parts", overview=await self._glance.look())

    async def sessions(self, request: Request, session: Session) -> Response:
        """List who is signed in."""
        found = await sessions(self._redis)
        return self._renderer.page(request, "sessions", session, sessions=found)

    async def end_session(self, request: Request, session: Session) -> Response:
        """End a session; it may be one's own."""
        wanted = request.state.form.get("id", "")
        if not wanted or not await end_session(self._redis, wanted):
            raise HTTPException(404, "This session has ended already.")
        await note(
            self._redis,
            who=who(session),
            via="console",
            what="console end",
            about=f"session {wanted}",
        )
        return RedirectResponse(SIGN_IN if wanted == session.id else SESSIONS, 303)

    async def audit(self, request: Request, session: Session) -> Response:
        """Show who did what, the newest first."""
        contains = request.query_params.get("contains", "").strip()[:SEARCH_LIMIT]
        before = request.query_params.get("before", "")
        if before and not ENTRY_ID.fullmatch(before):
            raise HTTPException(400, f"before={before[:40]} is no entry of the trail.")
        acts = await trail(self._redis, before=before or None, count=ACTS + 1, contains=contains)
        return self._renderer.page(
            request,
            "audit",
            session,
            acts=acts[:ACTS],
            older=acts[ACTS - 1].id if len(acts) > ACTS else "",
            before=before,
            contains=contains,
            command="parley audit" + (f" --contains {shlex.quote(contains)}" if contains else ""),
        )

    async def keyboard(self, request: Request, session: Session) -> Response:
        """List the keys."""
        return self._renderer.page(request, "keyboard", session)

    async def unknown(self, request: Request, session: Session) -> Response:
        """Say that there is no such page."""
        raise HTTPException(404, "The console has no page at this address.")
