"""Formulas on pages: the templates, putting one to work on the instance, ending one."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from service.core.open_connectors.formula_templates import (
    OF_AN_INSTANCE,
    FormulaTemplate,
    choose_template,
)
from service.errors import ConnectorError, UsageError
from service.operate.console import Session
from service.operate.formulas import FormulaList, create, find, list_formulas, remove
from service.web.console import paths
from service.web.console.asking import Asking
from service.web.console.forms import FormBounds

BOUNDS = FormBounds(limit_bytes=256 * 1024, fields=500)
"""Of the form that puts a formula to work: an entry for each of the template's variables."""

ID_LIMIT = 200

REMOVAL = "connector formula remove"
"""What ending a formula is called in the audit trail."""


@dataclass(frozen=True, slots=True)
class FormulaForm:
    """What somebody typed to put a template to work. values: by the variables' keys."""

    template: FormulaTemplate
    instance: str
    name: str
    values: Mapping[str, str]

    @property
    def filled_in(self) -> str:
        """The variable that gets our instance whatever is typed; "" where one has to be left."""
        keys = self.of_instance
        return keys[0] if len(keys) == 1 else ""

    @property
    def of_instance(self) -> list[str]:
        """The keys of the variables that take an instance."""
        variables = self.template.variables
        return [each.key for each in variables if each.kind == OF_AN_INSTANCE]

    @property
    def said(self) -> dict[str, str]:
        """The values that were typed."""
        keys = [each.key for each in self.template.variables if each.key != self.filled_in]
        return {key: self.values[key] for key in keys if self.values.get(key)}

    @property
    def command(self) -> str:
        """The command that does the same."""
        words = ["parley", "connector", "formula", "create", self.template.id]
        for key, value in self.said.items():
            words += ["--set", f"{key}={value}"]
        return shlex.join([*words, *(["--name", self.name] if self.name else [])])

    def problems(self) -> dict[str, str]:
        """Say what is missing, by the key of its variable."""
        found = {}
        for each in self.template.variables:
            if each.kind != OF_AN_INSTANCE and each.key not in self.said:
                found[each.key] = "say a value; the formula does not work without"
        several = [] if self.filled_in else self.of_instance
        ours = [key for key in several if self.said.get(key, self.instance) == self.instance]
        open_ = [key for key in several if key not in self.said]
        if several and not ours:
            found[several[0]] = f"leave one empty, for instance {self.instance}"
        for key in open_[1:]:
            found[key] = "say which instance; only one is left empty, for this one"
        return found


class FormulaPages:
    """Shows formulas of Open Connectors, and puts them to work."""

    def __init__(self, asking: Asking) -> None:
        self._asking = asking

    def routes(self) -> list[Route]:
        """Return where these pages lie."""
        asking = self._asking
        return [
            Route(paths.FORMULAS, asking.reads(self.formulas), methods=["GET"]),
            Route(paths.FORMULA_NEW, asking.reads(self.form), methods=["GET"]),
            Route(paths.FORMULA_NEW, asking.writes(self.create, BOUNDS), methods=["POST"]),
            Route(paths.FORMULA_REMOVE, asking.reads(self.ask_to_remove), methods=["GET"]),
            Route(paths.FORMULA_REMOVE, asking.writes(self.remove), methods=["POST"]),
        ]

    async def formulas(self, request: Request, session: Session) -> Response:
        """List the templates, and what is at work on the instance."""
        found = await list_formulas(self._asking.deployment)
        at_work = {each.id: each for each in found.at_work}
        made, removed = (
            request.query_params.get(what, "")[:ID_LIMIT] for what in ("made", "removed")
        )
        ended = bool(removed) and removed not in at_work
        ended = ended and await self._asking.was_done(REMOVAL, _about(removed))
        return self._asking.page(
            request,
            "formulas",
            session,
            found=found,
            of_an_instance=OF_AN_INSTANCE,
            made=at_work.get(made),
            removed=removed if ended else "",
        )

    async def form(self, request: Request, session: Session) -> Response:
        """Show the form of a template."""
        found = await list_formulas(self._asking.deployment)
        template = choose_template(found.templates, _said(request, "template"))
        return self._form(request, session, FormulaForm(template, found.instance, "", {}))

    def _form(
        self,
        request: Request,
        session: Session,
        form: FormulaForm,
        *,
        problems: Mapping[str, str] | None = None,
        error: ConnectorError | None = None,
    ) -> Response:
        return self._asking.page(
            request,
            "formula_new",
            session,
            502 if error else 400 if problems else 200,
            form=form,
            of_an_instance=OF_AN_INSTANCE,
            problems=problems or {},
            error=error,
        )

    async def create(self, request: Request, session: Session) -> Response:
        """Put a template to work, or say what is missing."""
        sent: Mapping[str, str] = request.state.form
        deployment = self._asking.deployment
        form = _read(sent, await list_formulas(deployment))
        if problems := form.problems():
            return self._form(request, session, form, problems=problems)
        template, name = form.template.id, form.name or None
        try:
            about = f"template {template}"
            async with self._asking.noted(session, "connector formula create", about) as noting:
                made = await create(deployment, template, form.said, name)
                noting.about = f"formula {made.id} of template {template}"
        except UsageError as error:
            return self._form(request, session, form, problems={"": str(error)})
        except ConnectorError as error:
            return self._form(request, session, form, error=error)
        return RedirectResponse(f"{paths.FORMULAS}?{urlencode({'made': made.id})}", 303)

    async def ask_to_remove(self, request: Request, session: Session) -> Response:
        """Ask before a formula is ended."""
        formula = await find(self._asking.deployment, _said(request, "id"))
        return self._asking.page(
            request,
            "formula_remove",
            session,
            formula=formula,
            command=command_to_remove(formula.id),
        )

    async def remove(self, request: Request, session: Session) -> Response:
        """End a formula."""
        wanted = str(request.state.form.get("id", ""))[:ID_LIMIT]
        formula = await find(self._asking.deployment, wanted)
        async with self._asking.noted(session, REMOVAL, _about(formula.id)):
            await remove(self._asking.deployment, formula)
        return RedirectResponse(f"{paths.FORMULAS}?{urlencode({'removed': formula.id})}", 303)


def command_to_remove(id_: str) -> str:
    """Write the command that ends a formula, to be pasted as it is."""
    return shlex.join(["parley", "connector", "formula", "remove", id_])


def _about(id_: str) -> str:
    """Name a formula for the audit trail."""
    return f"formula {id_}"


def _said(request: Request, name: str) -> str:
    found = request.query_params.get(name, "")[:ID_LIMIT]
    if not found:
        raise HTTPException(404, f"This page is of one formula, and the address has no {name}.")
    return found


def _read(sent: Mapping[str, str], found: FormulaList) -> FormulaForm:
    """Read what was typed. Raises UsageError for a template there is none of."""
    template = choose_template(found.templates, sent.get("template", "")[:ID_LIMIT])
    values = {each.key: sent.get(f"set:{each.key}", "").strip() for each in template.variables}
    return FormulaForm(template, found.instance, sent.get("name", "").strip(), values)
