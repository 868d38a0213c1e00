"""Signing in, by a one-time address or a password, and signing out."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qs, urlsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from service.errors import SignInRefused
from service.operate.audit import note
from service.operate.console import (
    Session,
    end_session,
    has_password,
    session_of,
    sign_in_by_password,
    sign_in_by_token,
)
from service.store.client import Redis
from service.web.console.cookies import Cookies
from service.web.console.forms import check_csrf, csrf_of, form_secret, read_form
from service.web.console.members import Members, who
from service.web.console.paths import SIGN_IN, way_back
from service.web.console.rendering import Renderer
from service.web.console.wording import lasting

TOKEN_LIMIT = 200
"""Characters of what may be a one-time token."""


class SignIn:
    """The pages of whoever is not signed in, or wants to be no longer."""

    def __init__(
        self, redis: Redis, renderer: Renderer, cookies: Cookies, members: Members
    ) -> None:
        self._redis = redis
        self._renderer = renderer
        self._cookies = cookies
        self._members = members

    async def show(self, request: Request) -> Response:
        """Show the way in. A one-time address is not used up by being looked at."""
        token = request.query_params.get("token", "")[:TOKEN_LIMIT]
        back = way_back(request.query_params.get("next", ""))
        if not token and await self._members.session(request) is not None:
            return RedirectResponse(back, 303)
        return await self._page(request, token=token, back=back)

    async def sign_in(self, request: Request) -> Response:
        """Begin a session, or say why not."""
        form = await read_form(request)
        check_csrf(form, csrf_of(self._cookies.form(request)))
        back = way_back(form.get("next", ""))
        field = "token" if "token" in form else "password"
        if not form.get(field, "").strip():
            return await self._page(request, back=back, problem=(field, NOTHING[field]), status=400)
        try:
            value, session = await self._begin(request, field, form)
        except SignInRefused as refusal:
            status = 429 if refusal.wait_s else 401
            wait = f"; try again in {lasting(refusal.wait_s)}" if refusal.wait_s else ""
            problem = field, refusal.reason + wait
            response = await self._page(request, back=back, problem=problem, status=status)
            if refusal.wait_s:
                response.headers["retry-after"] = str(int(refusal.wait_s))
            return response
        await self._end_former(request, session)
        response = RedirectResponse(back, 303)
        self._cookies.set_session(request, response, value)
        self._cookies.forget_form(request, response)
        return response

    async def sign_out(self, request: Request, session: Session) -> Response:
        """End the session that asks for it."""
        await end_session(self._redis, session.id)
        await note(self._redis, who=who(session), via="console", what="sign out")
        response = RedirectResponse(SIGN_IN, 303)
        self._cookies.forget_session(request, response)
        return response

    async def _begin(
        self, request: Request, field: str, form: Mapping[str, str]
    ) -> tuple[str, Session]:
        address = request.client.host if request.client else ""
        agent = request.headers.get("user-agent", "")
        if field == "token":
            token = token_in(form["token"])
            return await sign_in_by_token(self._redis, token, address=address, agent=agent)
        return await sign_in_by_password(
            self._redis, form["password"], address=address, agent=agent
        )

    async def _end_former(self, request: Request, session: Session) -> None:
        """End the session that this browser had: nobody could reach it any more."""
        cookie = self._cookies.session(request)
        former = await session_of(self._redis, cookie) if cookie else None
        if former is not None and former.id != session.id:
            await end_session(self._redis, former.id)

    async def _page(
        self,
        request: Request,
        *,
        back: str,
        token: str = "",
        problem: tuple[str, str] | None = None,
        status: int = 200,
    ) -> Response:
        secret = self._cookies.form(request) or form_secret()
        response = self._renderer.page(
            request,
            "sign_in",
            None,
            status,
            token=token,
            back=back,
            problem=problem,
            by_password=await has_password(self._redis),
            csrf=csrf_of(secret),
        )
        self._cookies.set_form(request, response, secret)
        return response


NOTHING = {
    "token": "Paste the address that `parley console` printed, all of it.",
    "password": "Enter the password that was set by `parley console password`.",
}
"""What a form without anything in it is answered, by its field."""


def token_in(pasted: str) -> str:
    """Return the token of a one-time address, or what was pasted if it is none."""
    text = pasted.strip()
    try:
        found = parse_qs(urlsplit(text).query).get("token", [text])
    except ValueError:
        return text[:TOKEN_LIMIT]
    return found[-1][:TOKEN_LIMIT]
