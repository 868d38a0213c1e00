"""The instance's API to read, and requests that are made of it by hand."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.core.open_connectors.api_reference import ApiOperation, ApiReference
from service.core.open_connectors.hub_request import LONGEST_PATH, REQUEST_METHODS, HubRequest
from service.errors import ConnectorError
from service.operate.api_docs import read_api
from service.operate.console import Session
from service.operate.hub_requests import HubAnswer, send, write_curl, write_python
from service.web.console import paths
from service.web.console.asking import Asking
from service.web.console.forms import FormBounds
from service.web.console.request_form import (
    FormProblem,
    RequestForm,
    form_of,
    read_form_of_request,
)

BOUNDS = FormBounds(limit_bytes=4_000_000, fields=200)
"""Of a request's form: its body may have a million characters, some of which take three bytes."""

SHOWN_CHARACTERS = 100_000
"""Of an answer's body, as `parley connector request` shows: a browser slows down over more."""

SEARCH_LIMIT = 100
NAME_LIMIT = 300


class ReferencePages:
    """Shows what the instance can be asked, and asks it."""

    def __init__(self, asking: Asking) -> None:
        self._asking = asking

    def routes(self) -> list[Route]:
        """Return where these pages lie."""
        asking = self._asking
        return [
            Route(paths.DOCS, asking.reads(self.docs), methods=["GET"]),
            Route(paths.REQUEST, asking.reads(self.form), methods=["GET"]),
            Route(paths.REQUEST, asking.writes(self.ask, BOUNDS), methods=["POST"]),
        ]

    async def docs(self, request: Request, session: Session) -> Response:
        """List the operations, or show one."""
        said = request.query_params.get("q", "").strip()[:SEARCH_LIMIT]
        wanted = request.query_params.get("operation", "")[:NAME_LIMIT]
        reference = await read_api(self._asking.deployment)
        if not wanted:
            found = reference.search(said) if said else reference.operations
            command = f" --search {shlex.quote(said)}" if said else ""
            return self._list(request, session, reference, found=found, said=said, command=command)
        found = _found(reference, wanted)
        command = f" {shlex.quote(wanted)}"
        if len(found) > 1:
            return self._list(request, session, reference, found=found, said=said, command=command)
        return self._asking.page(
            request,
            "operation",
            session,
            operation=found[0],
            commands=[f"parley connector docs{command}", found[0].example],
        )

    def _list(
        self,
        request: Request,
        session: Session,
        reference: ApiReference,
        *,
        found: tuple[ApiOperation, ...],
        said: str,
        command: str,
    ) -> Response:
        resources = dict.fromkeys(each.resource for each in found)
        groups = [
            (resource, [each for each in found if each.resource == resource])
            for resource in resources
        ]
        return self._asking.page(
            request,
            "docs",
            session,
            reference=reference,
            groups=groups,
            said=said,
            command=f"parley connector docs{command}",
        )

    async def form(self, request: Request, session: Session) -> Response:
        """Show a form to fill in: an operation's, or an empty one."""
        wanted = request.query_params.get("operation", "")[:NAME_LIMIT]
        if not wanted:
            return await self._form(
                request,
                session,
                RequestForm(path=request.query_params.get("path", "/")[:LONGEST_PATH]),
            )
        reference = await read_api(self._asking.deployment)
        return await self._form(request, session, form_of(_found(reference, wanted)[0]))

    async def ask(self, request: Request, session: Session) -> Response:
        """Make the request, or show it as others would; what may change something asks first."""
        sent: Mapping[str, str] = request.state.form
        form, wish = read_form_of_request(sent), sent.get("do", "send")
        if wish == "edit":
            return await self._form(request, session, form)
        try:
            asked = form.request()
        except FormProblem as error:
            problems = {error.where: error.text}
            return await self._form(request, session, form, 400, problems=problems)
        if wish == "write":
            return await self._form(request, session, form, asked=asked)
        if asked.writes and wish != "confirmed":
            return self._asking.page(
                request, "request_confirm", session, form=form, asked=asked, sent=sent
            )
        try:
            answer = await self._send(session, asked)
        except ConnectorError as error:
            return await self._form(request, session, form, 502, asked=asked, error=error)
        return await self._form(request, session, form, asked=asked, answer=answer)

    async def _send(self, session: Session, asked: HubRequest) -> HubAnswer:
        if not asked.writes:
            return await send(self._asking.deployment, asked)
        # Without the query, which may have words or a number of somebody's.
        about = f"{asked.method} {asked.path.partition('?')[0]}"
        async with self._asking.noted(session, "connector request", about) as noting:
            answer = await send(self._asking.deployment, asked)
            noting.outcome = f"answered {answer.status}"
        return answer

    async def _form(
        self,
        request: Request,
        session: Session,
        form: RequestForm,
        status: int = 200,
        *,
        problems: Mapping[str, str] | None = None,
        asked: HubRequest | None = None,
        answer: HubAnswer | None = None,
        error: ConnectorError | None = None,
    ) -> Response:
        curl, python = await self._written(asked) if asked else ("", "")
        text = "" if answer is None else _body(answer.body)
        return self._asking.page(
            request,
            "request",
            session,
            status,
            form=form,
            methods=REQUEST_METHODS,
            problems=problems or {},
            asked=asked,
            answer=answer,
            error=error or (answer.error if answer is not None else None),
            body=text[:SHOWN_CHARACTERS],
            left_out=max(0, len(text) - SHOWN_CHARACTERS),
            curl=curl,
            python=python,
        )

    async def _written(self, asked: HubRequest) -> tuple[str, str]:
        settings = await self._asking.deployment.settings_in_use(self._asking.redis)
        return write_curl(settings, asked), write_python(settings, asked)


def _found(reference: ApiReference, wanted: str) -> tuple[ApiOperation, ...]:
    found = reference.find(wanted)
    if not found:
        near = " or ".join(reference.near(wanted))
        meant = f" Is {near} meant?" if near else " API docs lists all there are."
        raise HTTPException(404, f"The instance describes no operation {wanted}.{meant}")
    return found


def _body(body: Any) -> str:
    if body is None or isinstance(body, str):
        return body or ""
    return json.dumps(body, indent=2, ensure_ascii=False)
