"""Lets those in who are signed in, and sends everybody else to sign in first."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from service.operate.console import Session, session_of
from service.store.client import Redis
from service.web.console.cookies import Cookies
from service.web.console.forms import USUAL, FormBounds, check_csrf, read_form
from service.web.console.paths import OVERVIEW, SIGN_IN, way_back

SESSION = "console.session"
"""Where a request's scope has the session that it is of."""

VIEWER = "This session is a viewer's, who sees and does not act. Sign in as an operator for that."
"""What a viewer is told who tries to act."""

View = Callable[[Request, Session], Awaitable[Response]]
"""Answers somebody who is signed in."""

Endpoint = Callable[[Request], Awaitable[Response]]


def who(session: Session) -> str:
    """Name somebody for the audit trail."""
    return f"{session.who}, session {session.id}"


class Members:
    """Those who are signed in."""

    def __init__(self, redis: Redis, cookies: Cookies) -> None:
        self._redis = redis
        self._cookies = cookies

    async def session(self, request: Request) -> Session | None:
        """Find the session that a request is of, which is then active; None if there is none."""
        cookie = self._cookies.session(request)
        found = await session_of(self._redis, cookie) if cookie else None
        request.scope[SESSION] = found
        return found

    def only(self, view: View) -> Endpoint:
        """Make an endpoint of a page for them; others come back to it once they are signed in."""

        async def endpoint(request: Request) -> Response:
            session = await self.session(request)
            if session is None:
                return _to_sign_in(request)
            return await view(request, session)

        return endpoint

    def writing(self, view: View, *, operators: bool, bounds: FormBounds = USUAL) -> Endpoint:
        """Make an endpoint of what acts, for forms with the session's token.

        operators: viewers may not. bounds: of the form. The form is in the request's state.
        """

        async def checked(request: Request, session: Session) -> Response:
            form = await read_form(request, bounds)
            check_csrf(form, session.csrf)
            if operators and session.role != "operator":
                raise HTTPException(403, VIEWER)
            request.state.form = form
            return await view(request, session)

        return self.only(checked)

    def live(self, view: View) -> Endpoint:
        """Make an endpoint of what a script reads: a redirection would tell it nothing."""

        async def endpoint(request: Request) -> Response:
            session = await self.session(request)
            if session is None:
                return Response("sign in first", 401, media_type="text/plain")
            return await view(request, session)

        return endpoint

    async def lasts(self, request: Request) -> bool:
        """Tell whether the session of a request has not ended, without being active in it."""
        cookie = self._cookies.session(request)
        return await session_of(self._redis, cookie, renew=False) is not None


def _to_sign_in(request: Request) -> RedirectResponse:
    wanted = request.url.path
    if request.url.query:
        wanted += f"?{request.url.query}"
    # What a form was to do is not done after signing in, but its page is where to do it again.
    back = way_back(wanted)
    query = f"?{urlencode({'next': back})}" if back != OVERVIEW else ""
    return RedirectResponse(SIGN_IN + query, 303)
