"""The page of our instance at Open Connectors, and what an operator does to it.

Whatever changes something has a page of its own first, which says what comes of it.
"""

from __future__ import annotations

import re
import shlex
from typing import Any, cast

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from service.errors import (
    ConnectorError,
    LockLost,
    ParleyError,
    SettingsError,
    SetupChanged,
    SignInRefused,
    UsageError,
)
from service.operate import instance_acts
from service.operate.audit import trail
from service.operate.console import Session, confirm_password, has_password
from service.operate.instance_acts import ACTS, ActName
from service.operate.instance_look import last_look, look_at_instance
from service.web.console import paths
from service.web.console.asking import Asking
from service.web.console.glance import Glance
from service.web.console.wording import lasting

LATEST = 4
"""Acts of people that are shown; the audit trail has the others."""

INSTANCE_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")

TOLD = (ConnectorError, SettingsError, UsageError, SetupChanged, LockLost)
"""Why something was not done, as the page itself says it."""

DONE = {*ACTS, "take"}
"""What the page says was done, after it was."""


class InstancePages:
    """The pages of our instance."""

    def __init__(self, asking: Asking, glance: Glance) -> None:
        self._asking = asking
        self._redis = asking.redis
        self._deployment = asking.deployment
        self._glance = glance

    def routes(self) -> list[Route]:
        """Make the routes of these pages."""
        members = self._asking.members
        reads = {
            paths.INSTANCE: self.show,
            paths.INSTANCE_TOKEN: self.ask_for_password,
            paths.TAKE: self.candidates,
            paths.TAKE + "/{id}": self.confirm_take,
            paths.INSTANCE + "/{act}": self.confirm,
        }
        writes = {
            paths.INSTANCE_TOKEN: self.show_token,
            paths.TAKE + "/{id}": self.take,
            paths.INSTANCE + "/{act}": self.do,
        }
        return [
            *(
                Route(path, members.writing(page, operators=True), methods=["POST"])
                for path, page in writes.items()
            ),
            *(Route(path, members.only(page), methods=["GET"]) for path, page in reads.items()),
        ]

    async def show(self, request: Request, session: Session) -> Response:
        """Show how it stands."""
        done = request.query_params.get("done", "")
        overview = await self._glance.look()
        return self._page(
            request,
            "instance",
            session,
            look=await look_at_instance(self._deployment),
            last=await last_look(self._redis),
            watch=next((each for each in overview.parts if each.name == "instance"), None),
            acts=await trail(self._redis, count=LATEST, contains="connector "),
            done=done if done in DONE else "",
        )

    async def confirm(self, request: Request, session: Session) -> Response:
        """Say what an act does, before it is done."""
        return await self._confirm(request, session, _act_of(request))

    async def do(self, request: Request, session: Session) -> Response:
        """Do it."""
        act, seen = _act_of(request), request.state.form.get("instance", "")
        about = f"instance {seen}" if seen else ""
        try:
            async with self._asking.noted(session, f"connector {act}", about) as noting:
                id_ = await instance_acts.act_on_instance(self._deployment, act, seen)
                noting.about = f"instance {id_}"
        except TOLD as error:
            return await self._confirm(request, session, act, problem=error)
        return RedirectResponse(f"{paths.INSTANCE}?done={act}", 303)

    async def candidates(self, request: Request, session: Session) -> Response:
        """List what can be taken over."""
        found, problem = [], None
        try:
            found = await instance_acts.list_candidates(self._deployment)
        except SettingsError:  # Of which that page tells, and what to do.
            return RedirectResponse(paths.INSTANCE, 303)
        except TOLD as error:
            problem = error
        return self._page(
            request, "instance_candidates", session, candidates=found, problem=problem
        )

    async def confirm_take(self, request: Request, session: Session) -> Response:
        """Say what taking an instance over does."""
        return await self._confirm_take(request, session, _id_of(request))

    async def take(self, request: Request, session: Session) -> Response:
        """Take it over."""
        id_ = _id_of(request)
        try:
            async with self._asking.noted(session, "connector take", f"instance {id_}"):
                await instance_acts.take(self._deployment, id_)
        except TOLD as error:
            return await self._confirm_take(request, session, id_, problem=error)
        return RedirectResponse(f"{paths.INSTANCE}?done=take", 303)

    async def ask_for_password(self, request: Request, session: Session) -> Response:
        """Ask for the password that the token is shown after."""
        return await self._token_page(request, session)

    async def show_token(self, request: Request, session: Session) -> Response:
        """Show the token, this once."""
        password = request.state.form.get("password", "")
        if not password:
            reason = "enter the password that was set by `parley console password`"
            return await self._token_page(request, session, refused=reason, status=400)
        address = request.client.host if request.client else ""
        try:
            await confirm_password(self._redis, session, password, address=address)
        except SignInRefused as refusal:
            wait = f"; try again in {lasting(refusal.wait_s)}" if refusal.wait_s else ""
            status = 429 if refusal.wait_s else 401
            page = await self._token_page(
                request, session, refused=refusal.reason + wait, status=status
            )
            if refusal.wait_s:
                page.headers["retry-after"] = str(int(refusal.wait_s))
            return page
        try:
            # Noted before it is shown: what nobody knows of is not shown.
            async with self._asking.noted(session, "connector show --token") as noting:
                id_, token = await instance_acts.token_of(self._deployment)
                noting.about = f"instance {id_}"
        except TOLD as error:
            return await self._token_page(request, session, refused=str(error), status=409)
        return await self._token_page(request, session, shown=(id_, token))

    async def _confirm(
        self, request: Request, session: Session, act: ActName, problem: ParleyError | None = None
    ) -> Response:
        look = await look_at_instance(self._deployment)
        nothing_to_act_on = not look.id and act != "apply"
        if (nothing_to_act_on or not look.set_up) and problem is None:
            return RedirectResponse(paths.INSTANCE, 303)
        return self._page(
            request,
            "instance_act",
            session,
            status_of(problem),
            act=act,
            look=look,
            problem=problem,
            command=shlex.join(["parley", "connector", act]),
        )

    async def _confirm_take(
        self, request: Request, session: Session, id_: str, problem: ParleyError | None = None
    ) -> Response:
        look, lines = await look_at_instance(self._deployment), []
        if isinstance(look.problem, SettingsError):
            return RedirectResponse(paths.INSTANCE, 303)
        try:
            lines = (await instance_acts.plan_take(self._deployment, id_)).lines()
        except TOLD as error:
            problem = problem or error
        return self._page(
            request,
            "instance_take",
            session,
            status_of(problem),
            id=id_,
            lines=lines,
            look=look,
            problem=problem,
            command=shlex.join(["parley", "connector", "take", id_]),
        )

    async def _token_page(
        self,
        request: Request,
        session: Session,
        *,
        refused: str = "",
        shown: tuple[str, str] | None = None,
        status: int = 200,
    ) -> Response:
        return self._page(
            request,
            "instance_token",
            session,
            status,
            refused=refused,
            shown=shown,
            by_password=await has_password(self._redis),
        )

    def _page(
        self, request: Request, name: str, session: Session, status: int = 200, **values: Any
    ) -> Response:
        settings = self._deployment.settings
        return self._asking.page(
            request,
            name,
            session,
            status,
            repairs=settings.connector_repair == "repair",
            watch_s=settings.connector_watch_s,
            **values,
        )


def status_of(problem: ParleyError | None) -> int:
    """Choose the status of a page that says why something was not done."""
    if problem is None:
        return 200
    return 502 if isinstance(problem, ConnectorError) else 409


def _act_of(request: Request) -> ActName:
    act = request.path_params["act"]
    if act not in ACTS:
        raise HTTPException(404, "The console has no page at this address.")
    return cast(ActName, act)


def _id_of(request: Request) -> str:
    id_: str = request.path_params["id"]
    if not INSTANCE_ID.fullmatch(id_):
        raise HTTPException(404, f"{id_[:40]} is no instance's id.")
    return id_
