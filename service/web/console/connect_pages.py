"""Connect: what somebody types in the console instead of setting it, step by step.

What is typed is kept as a draft, right or wrong: no mistake, reload or new sign-in loses it.
Secrets go in and never come back.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from service.core.open_connectors.regions import REGIONS, region_of
from service.errors import (
    ConnectorError,
    ParleyError,
    SettingsError,
    SetupChanged,
    StoreUnavailable,
    UsageError,
)
from service.operate.console import Session
from service.operate.setup import Setup, SetupState, field_of
from service.web.console import paths
from service.web.console.connect_steps import (
    ACCESS,
    ASKING,
    ASKS,
    REVIEW,
    STEPS,
    TWILIO,
    ConnectStep,
    after,
    asked,
    first_open,
    is_whole,
    stages,
    step_of,
)
from service.web.console.glance import Glance
from service.web.console.live import Streams
from service.web.console.members import Members, who
from service.web.console.rendering import Renderer
from service.web.console.wording import pieces

OWN = "own"
"""The region of whoever writes a base address of their own."""

TYPED = "application/json"
"""What a script accepts that sends a field as soon as it is typed."""


class ConnectPages:
    """The steps, and what comes after them.

    setup: what they work on. changed: called when another setup is in use from now on.
    """

    def __init__(
        self,
        setup: Setup,
        renderer: Renderer,
        glance: Glance,
        streams: Streams,
        members: Members,
        *,
        changed: Callable[[], None],
    ) -> None:
        self._setup = setup
        self._renderer = renderer
        self._glance = glance
        self._streams = streams
        self._members = members
        self._changed = changed

    def routes(self) -> list[Route]:
        """Return where each of them is answered."""
        only, writing = self._members.only, partial(self._members.writing, operators=True)
        reads = {
            paths.CONNECT: only(self.begin),
            paths.CONNECT_REVIEW: only(self.review),
            paths.CONNECT_PLAN: self._members.live(self.plan),
            paths.CONNECT_DONE: only(self.done),
            paths.CONNECT_LIVE: self._members.live(self.live),
            paths.CONNECT_STEP: only(self.step),
        }
        writes = {
            paths.CONNECT_CHECK: writing(self.check),
            paths.CONNECT_RETIRE: writing(self.retire),
            paths.CONNECT_APPLY: writing(self.apply),
            paths.CONNECT_DISCARD: writing(self.discard),
            paths.CONNECT_STEP: writing(self.type),
        }
        return [
            *(Route(path, page, methods=["POST"]) for path, page in writes.items()),
            *(Route(path, page, methods=["GET"]) for path, page in reads.items()),
        ]

    async def begin(self, request: Request, session: Session) -> Response:
        """Lead to the first step that lacks something."""
        return RedirectResponse(first_open(await self._setup.look()), 303)

    async def step(self, request: Request, session: Session) -> Response:
        """Show a step. `?ask`: and what the connector says of what was typed."""
        step, state = _asking(request), await self._setup.look()
        refused: Mapping[str, ConnectorError] = {}
        if "ask" in request.query_params and is_whole(state, step):
            refused = await self._refused(state, step)
        return self._step(request, session, step, state, refused=refused)

    async def type(self, request: Request, session: Session) -> Response:
        """Keep what was typed, and go on, or show what is wrong with it."""
        step, form = _asking(request), request.state.form
        state = await self._setup.type(_typed(step, form), who=who(session))
        if request.headers.get("accept") == TYPED:
            fields = asked(state, step)
            return JSONResponse(
                {
                    name: pieces(each.problem) if each.problem else []
                    for name, each in fields.items()
                }
            )
        if not is_whole(state, step):
            return self._step(request, session, step, state, tried=True, status=400)
        return RedirectResponse(after(step).path, 303)

    async def check(self, request: Request, session: Session) -> Response:
        """Keep what was typed, and ask the connector whether it takes it."""
        form = request.state.form
        state = await self._setup.type(_typed(ACCESS, form), who=who(session))
        if not is_whole(state, ACCESS):
            return self._step(request, session, ACCESS, state, tried=True, status=400)
        try:
            answer = await self._setup.check_access()
        except ConnectorError as error:
            field = field_of(error, state.element)
            field = field if field in ACCESS.fields else ACCESS.fields[0]
            return self._step(request, session, ACCESS, state, refused={field: error}, status=400)
        return self._step(request, session, ACCESS, state, answer=answer)

    async def review(self, request: Request, session: Session) -> Response:
        """Show all of it. `?plan`: and what applying it would change, at once."""
        state = await self._setup.look()
        planned = await self._planned(state) if "plan" in request.query_params else None
        return self._review(request, session, state, planned)

    async def plan(self, request: Request, session: Session) -> Response:
        """Ask the connector what applying it would change: a part of the page before."""
        state = await self._setup.look()
        return self._renderer.page(
            request, "connect_plan", session, state=state, planned=await self._planned(state)
        )

    async def apply(self, request: Request, session: Session) -> Response:
        """Use what was typed from now on."""
        try:
            seen = request.state.form.get("seen", "")
            await self._setup.apply(who=who(session), via="console", seen=seen)
        except SetupChanged as error:
            return self._review(request, session, await self._setup.look(), Planned(error), 409)
        except (ConnectorError, SettingsError) as error:
            state = await self._setup.look()
            return self._review(request, session, state, Planned(error, state.element), 400)
        self._changed()
        return RedirectResponse(paths.CONNECT_DONE, 303)

    async def discard(self, request: Request, session: Session) -> Response:
        """Forget what was typed and is not in use."""
        await self._setup.discard(who=who(session), via="console")
        return RedirectResponse(paths.CONNECT, 303)

    async def retire(self, request: Request, session: Session) -> Response:
        """Take texts that are signed with the former auth token no more."""
        try:
            await self._setup.retire_token(who=who(session), via="console")
        except UsageError as error:
            raise HTTPException(409, "There is no former auth token to retire.") from error
        except SetupChanged as error:
            raise HTTPException(409, str(error)) from error
        self._changed()
        return RedirectResponse(TWILIO.path, 303)

    async def done(self, request: Request, session: Session) -> Response:
        """Show how what was applied comes into use, and what comes next."""
        state = await self._setup.look()
        if not state.complete:
            return RedirectResponse(first_open(state), 303)
        return self._renderer.page(request, "connect_done", session, **await self._progress(state))

    async def live(self, request: Request, session: Session) -> Response:
        """Go on showing it, for as long as the session lasts."""
        state = await self._setup.look()

        async def render() -> str:
            nonlocal state
            # What was last seen stands while Redis is away, which the page tells beside it.
            with contextlib.suppress(StoreUnavailable, SettingsError):
                state = await self._setup.look()
            return self._renderer.fragment("connect_progress", **await self._progress(state))

        return self._streams.answer(render, partial(self._members.lasts, request))

    async def _progress(self, state: SetupState) -> Mapping[str, Any]:
        overview = await self._glance.look()
        parts = {part.name: part for part in overview.parts}
        setup, sender = parts.get("setup"), state.entries["twilio_sender"]
        # A process is ready by the former setup as well, until it takes this one, or if it can't.
        used = setup is None or (setup.ok and setup.detail in {"", f"version {state.version}"})
        return {
            "used": used,
            "connected": used and overview.ready,
            "state": state,
            "stages": stages(state, None),
            "overview": overview,
            "parts": parts,
            "sender": "" if sender.problem else sender.value,
        }

    async def _planned(self, state: SetupState) -> Planned | None:
        if not state.complete:
            return None
        try:
            return Planned(lines=(await self._setup.plan()).lines())
        except (ConnectorError, SettingsError) as error:
            return Planned(error, state.element)

    async def _refused(self, state: SetupState, step: ConnectStep) -> Mapping[str, ConnectorError]:
        """Ask the connector, and return what it says of the fields of a step."""
        with contextlib.suppress(SettingsError):
            try:
                await (self._setup.plan() if state.complete else self._setup.check_access())
            except ConnectorError as error:
                field = field_of(error, state.element)
                return {field: error} if field in step.fields else {}
        return {}

    def _review(
        self,
        request: Request,
        session: Session,
        state: SetupState,
        planned: Planned | None,
        status: int = 200,
    ) -> Response:
        groups = [(step, asked(state, step, tried=True)) for step in STEPS if step.fields]
        return self._renderer.page(
            request,
            "connect_review",
            session,
            status,
            state=state,
            stages=stages(state, REVIEW),
            groups=groups,
            planned=planned,
            regions={address: name for name, address in REGIONS.values()},
        )

    def _step(
        self,
        request: Request,
        session: Session,
        step: ConnectStep,
        state: SetupState,
        *,
        tried: bool = False,
        refused: Mapping[str, ConnectorError] | None = None,
        answer: str = "",
        status: int = 200,
    ) -> Response:
        address = state.entries["open_connectors_base_url"].value
        form: Mapping[str, str] = getattr(request.state, "form", {})
        region = region_of(address) or (OWN if address else form.get("region", ""))
        return self._renderer.page(
            request,
            f"connect_{step.name}",
            session,
            status,
            state=state,
            step=step,
            next_step=after(step),
            stages=stages(state, step, refused=bool(refused)),
            fields=asked(state, step, tried=tried, refused=refused),
            answer=answer,
            region=region,
            regions=REGIONS,
            own=OWN,
        )


class Planned:
    """What applying the setup would change, or why that can't be told.

    lines: as `parley connector plan` prints them. error: in their stead. element: the connector's.
    """

    def __init__(
        self,
        error: ParleyError | None = None,
        element: str = "twilio",
        lines: list[str] | None = None,
    ) -> None:
        self.lines = lines or []
        self.error = error
        self.refusal = error if isinstance(error, ConnectorError) else None
        self.problems = error.problems if isinstance(error, SettingsError) else ()
        field = field_of(error, element) if isinstance(error, ConnectorError) else ""
        self.field = field
        self.step = step_of(field)
        self.label = ASKS[field].label if field else ""


def _asking(request: Request) -> ConnectStep:
    step = ASKING.get(request.path_params["step"])
    if step is None:
        raise HTTPException(404, "Connect has no such step.")
    return step


def _typed(step: ConnectStep, form: Mapping[str, str]) -> Mapping[str, str]:
    """Return what a form says of a step's fields. A region of the list stands for its address."""
    typed = {field: form[field] for field in step.fields if field in form}
    known = REGIONS.get(form.get("region", ""))
    if known is not None and step is ACCESS:
        typed["open_connectors_base_url"] = known[1]
    return typed
