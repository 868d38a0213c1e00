"""What pages share that ask the connector, as the commands do.

A page says what is missing where there is no instance yet, and what the connector said where it
refuses or does not answer.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from service.errors import ConnectorError, SettingsError, UsageError
from service.operate.audit import Noting, noted, trail
from service.operate.console import Session
from service.operate.deployment import Deployment
from service.store.client import Redis
from service.web.console.forms import USUAL, FormBounds
from service.web.console.guard import READS
from service.web.console.members import Endpoint, Members, View, who
from service.web.console.rendering import Renderer

LATEST = 50
"""Acts among which is what a page says was done: it is opened right after."""


@dataclass(frozen=True, slots=True)
class Asking:
    """Makes endpoints of such pages, and what they are made of."""

    redis: Redis
    deployment: Deployment
    renderer: Renderer
    members: Members

    def page(
        self, request: Request, name: str, session: Session, status: int = 200, **values: Any
    ) -> HTMLResponse:
        """Answer with a page.

        Besides `values` it knows whether whoever sees it `may` act, and whether it is `fresh`: only
        looked at, with nothing in its form that somebody has sent.
        """
        may, fresh = session.role == "operator", request.method in READS
        return self.renderer.page(request, name, session, status, may=may, fresh=fresh, **values)

    def reads(self, view: View) -> Endpoint:
        """Make an endpoint of a page for those who are signed in."""
        return self.members.only(self._answered(view))

    def writes(self, view: View, bounds: FormBounds = USUAL) -> Endpoint:
        """Make an endpoint of what acts, for operators. bounds: of its form."""
        return self.members.writing(self._answered(view), operators=True, bounds=bounds)

    def noted(
        self, session: Session, what: str, about: str = ""
    ) -> AbstractAsyncContextManager[Noting]:
        """Have what is done inside noted in the audit trail. what: the command, without parley."""
        return noted(self.redis, who=who(session), via="console", what=what, about=about)

    async def was_done(self, what: str, *about: str) -> bool:
        """Tell whether this was done lately, to one of these: any words may be in an address."""
        acts = await trail(self.redis, count=LATEST)
        return any((a.what, a.outcome) == (what, "done") and a.about in about for a in acts)

    def _answered(self, view: View) -> View:
        async def answered(request: Request, session: Session) -> Response:
            try:
                return await view(request, session)
            except SettingsError as error:
                return self.page(request, "no_instance", session, problems=error.problems)
            except ConnectorError as error:
                return self.page(
                    request, "no_answer", session, 502, error=error, again=_again(request)
                )
            except UsageError as error:
                raise HTTPException(404, str(error)) from error

        return answered


def _again(request: Request) -> str:
    """Return the address of a page, to open once more; "" for what acts."""
    if request.method not in READS:
        return ""
    return request.url.path + (f"?{request.url.query}" if request.url.query else "")
