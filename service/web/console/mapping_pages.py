"""Common resources on pages: what is mapped, mapping one beside a row of the vendor's, removing."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from service.core.open_connectors.common_resources import (
    check_name,
    fields_of_row,
    is_name,
    map_sample,
)
from service.errors import ConnectorError, UsageError
from service.operate.common_resources import list_resources, remove, show
from service.operate.console import Session
from service.operate.mapping_drafts import (
    MappingDraft,
    NothingMapped,
    ResourceExists,
    VendorRows,
    draft,
    save,
    sketch,
)
from service.web.console import paths
from service.web.console.asking import Asking
from service.web.console.forms import FormBounds
from service.web.console.mapping_form import (
    MappingForm,
    form_of_pairings,
    new_form,
    read_mapping_form,
)

BOUNDS = FormBounds(limit_bytes=256 * 1024, fields=2_000)
"""Of a mapping's form: two entries for each field of a resource."""

NAME_LIMIT = 100

REMOVAL = "connector map remove"
"""What removing a mapping is called in the audit trail."""


class MappingPages:
    """Shows what is mapped on the instance, and maps."""

    def __init__(self, asking: Asking) -> None:
        self._asking = asking

    def routes(self) -> list[Route]:
        """Return where these pages lie."""
        asking = self._asking
        return [
            Route(paths.MAPPING, asking.reads(self.mapped), methods=["GET"]),
            Route(paths.MAPPING_EDIT, asking.reads(self.edit), methods=["GET"]),
            Route(paths.MAPPING_EDIT, asking.writes(self.save, BOUNDS), methods=["POST"]),
            Route(paths.MAPPING_REMOVE, asking.reads(self.ask_to_remove), methods=["GET"]),
            Route(paths.MAPPING_REMOVE, asking.writes(self.remove), methods=["POST"]),
        ]

    async def mapped(self, request: Request, session: Session) -> Response:
        """List the resources, or show one."""
        if name := _name(request):
            return await self._show(request, session, name)
        found = await list_resources(self._asking.deployment)
        mapped = {each.name for each in (*found.own, *found.for_all)}
        saved, removed = (
            request.query_params.get(what, "")[:NAME_LIMIT] for what in ("saved", "removed")
        )
        gone = bool(removed) and found.own_mapping(removed) is None
        gone = gone and await self._asking.was_done(REMOVAL, removed, _with_definition(removed))
        return self._asking.page(
            request,
            "mapping",
            session,
            found=found,
            is_name=is_name,
            unmapped=[each for each in found.resources if each.name not in mapped],
            saved=saved if found.own_mapping(saved) else "",
            removed=removed if gone else "",
        )

    async def _show(self, request: Request, session: Session, name: str) -> Response:
        found = await show(self._asking.deployment, name)
        return self._asking.page(
            request,
            "mapping_show",
            session,
            found=found,
            pairs=found.mapping.pairs if found.mapping else {},
            values=_values(found.row, found.resource.fields),
            command=shlex.join(["parley", "connector", "map", "show", name]),
        )

    async def edit(self, request: Request, session: Session) -> Response:
        """Show a form: of a resource that there is, or of one to make."""
        name, vendor = _name(request), request.query_params.get("vendor", "")[:NAME_LIMIT]
        found = await sketch(self._asking.deployment, name or None, vendor=vendor or None)
        form = new_form(found.rows.name)
        if name:
            form = form_of_pairings(name, found.rows.name, found.fields, found.pairings)
        return self._edit(request, session, form, found.rows)

    def _edit(
        self,
        request: Request,
        session: Session,
        form: MappingForm,
        rows: VendorRows | None,
        *,
        problems: Mapping[str, str] | None = None,
        error: ConnectorError | None = None,
    ) -> Response:
        """Show the form. rows: the vendor's; None where they are not to be had."""
        status = 200 if not problems else 400
        return self._asking.page(
            request,
            "mapping_edit",
            session,
            502 if error else status,
            form=form,
            rows=rows,
            known=rows.known if rows else (),
            sample=_sample(rows),
            problems=problems or {},
            error=error,
        )

    async def save(self, request: Request, session: Session) -> Response:
        """Show what a mapping makes of a row, save it, or go on with the form."""
        sent: Mapping[str, str] = request.state.form
        form, wish = read_mapping_form(sent), sent.get("do", "preview")
        if wish in {"edit", "more", "propose"}:
            return await self._go_on(request, session, form, wish)
        problems = form.problems()
        if not problems:
            try:
                return await self._draft(request, session, form, wish)
            except ResourceExists:
                problems = {"name": "there is such a resource already; choose it in the list"}
            except NothingMapped:
                problems = {"theirs.0": "say what fills at least one field"}
            except UsageError as error:
                problems = {"name": str(error)}
            except ConnectorError as error:
                return self._edit(request, session, form, None, error=error)
        return await self._go_on(request, session, form, wish, problems)

    async def _go_on(
        self,
        request: Request,
        session: Session,
        form: MappingForm,
        wish: str,
        problems: Mapping[str, str] | None = None,
    ) -> Response:
        vendor = None if problems and "vendor" in problems else form.vendor
        try:
            rows = (await sketch(self._asking.deployment, None, vendor=vendor)).rows
        except (ConnectorError, UsageError) as error:
            known = error if isinstance(error, ConnectorError) else None
            told = dict(problems or {}) if known else {"vendor": str(error), **(problems or {})}
            return self._edit(request, session, form, None, problems=told, error=known)
        if wish == "more":
            form = form.longer()
        elif wish == "propose":
            form = form.proposed(rows.known)
        return self._edit(request, session, form, rows, problems=problems)

    async def _draft(
        self, request: Request, session: Session, form: MappingForm, wish: str
    ) -> Response:
        deployment = self._asking.deployment
        drafted = await draft(
            deployment, form.name, form.said, vendor=form.vendor, new=form.new, propose=False
        )
        if wish != "save":
            return self._preview(request, session, form, drafted)
        async with self._asking.noted(session, "connector map set", form.name):
            await save(deployment, drafted)
        return RedirectResponse(f"{paths.MAPPING}?{urlencode({'saved': form.name})}", 303)

    def _preview(
        self, request: Request, session: Session, form: MappingForm, drafted: MappingDraft
    ) -> Response:
        return self._asking.page(
            request, "mapping_preview", session, form=form, drafted=drafted, said=form.said
        )

    async def ask_to_remove(self, request: Request, session: Session) -> Response:
        """Ask before a mapping is removed, or a resource deleted."""
        name = check_name(_name(request))
        there = await list_resources(self._asking.deployment)
        own, defined = there.own_mapping(name), name in {each.name for each in there.resources}
        if own is None and not defined:
            raise UsageError(f"{name}: nothing is mapped so for our instance alone")
        return self._asking.page(
            request,
            "mapping_remove",
            session,
            resource=name,
            own=own,
            defined=defined,
            commands=commands_to_remove(name, own=own is not None, defined=defined),
        )

    async def remove(self, request: Request, session: Session) -> Response:
        """Remove a mapping, and the resource with it where that is wished."""
        sent: Mapping[str, str] = request.state.form
        name, definition = sent.get("name", "")[:NAME_LIMIT], sent.get("definition") == "yes"
        about = _with_definition(name) if definition else name
        async with self._asking.noted(session, REMOVAL, about):
            await remove(self._asking.deployment, name, definition=definition)
        return RedirectResponse(f"{paths.MAPPING}?{urlencode({'removed': name})}", 303)


def commands_to_remove(name: str, *, own: bool, defined: bool) -> list[str]:
    """Write the commands that remove a mapping, delete its resource, or do both.

    own: it is mapped for our instance alone. defined: the organization has such a resource.
    """
    remove = ["parley", "connector", "map", "remove", name]
    ways = [remove] if own else []
    if defined:
        ways.append([*remove, "--definition"])
    return [shlex.join(words) for words in ways]


def _with_definition(name: str) -> str:
    """Name a resource for the audit trail that is deleted as well."""
    return f"{name}, and its definition"


def _name(request: Request) -> str:
    return request.query_params.get("name", "")[: NAME_LIMIT + 1]


def _sample(rows: VendorRows | None) -> Mapping[str, Any]:
    """Return the values of a vendor's row by the names that can be mapped."""
    if rows is None or rows.row is None:
        return {}
    return map_sample(rows.row, {name: name for name in fields_of_row(rows.row)})


def _values(row: Mapping[str, Any] | None, fields: Mapping[str, str]) -> Mapping[str, Any]:
    """Return a row's values by our names: as they are, or in objects within it."""
    found = map_sample(row or {}, {name: name for name in fields})
    return {name: (row or {}).get(name, value) for name, value in found.items()}
