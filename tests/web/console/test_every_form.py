"""Every form of the console: who may send it, from where, and that nobody else's does anything."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from starlette.routing import Route

from service.core.open_connectors.hub_request import read_request
from service.operate import console
from service.operate.common_resources import list_resources
from service.operate.deployment import Deployment
from service.operate.formulas import create, list_formulas
from service.operate.hub_requests import send
from service.operate.instance import open_provisioner
from service.operate.instance_acts import list_candidates
from service.operate.mapping_drafts import draft, save
from service.operate.setup import Setup
from service.settings.setup import Given, load_given
from service.web.console import paths
from service.web.console.app import pages_app
from tests.connector.pieces import (
    AUTH_TOKEN,
    ORGANIZATION,
    OURS,
    THEIRS,
    USER,
    running_sandbox,
)
from tests.present import present
from tests.web.console.conftest import BARE, PASSWORD, Desk, Open, field_of
from tests.web.console.test_formula_pages import ONE
from tests.web.console.test_instance import ELSEWHERE

pytestmark = pytest.mark.anyio

TEXT = json.dumps({"To": THEIRS, "From": OURS, "Body": "hi"})


@dataclass
class Scene:
    """A deployment in which each form has something to act on."""

    desk: Desk
    setup: Setup
    ours: str
    theirs: str
    template: str
    formula: str
    doomed: str

    @property
    def deployment(self) -> Deployment:
        """What pages work on."""
        return self.desk.deployment

    async def state(self) -> Mapping[str, Any]:
        """Return all that a form could change: in Redis, and at the connector."""
        redis, kept = self.desk.redis, {}
        async for key in redis.scan_iter("*"):
            if b"session:" not in key:  # Each has the time it was last used at.
                kept[key] = await redis.dump(key)
        async with open_provisioner(self.deployment) as provisioner:
            current = await provisioner.current()
        return {
            "kept": kept,
            "sessions": sorted(each.id for each in await console.sessions(redis)),
            "instance": current,
            "instances": await list_candidates(self.deployment),
            "resources": await list_resources(self.deployment),
            "formulas": await list_formulas(self.deployment),
            "log": (await send(self.deployment, read_request("GET", "/messages"))).body,
        }


Form = Callable[[Scene], Awaitable[tuple[str, dict[str, str]]]]
"""Makes a form of a scene: where it is sent, and what is in it besides the token."""


def form(path: str, /, **fields: str) -> Form:
    """A form that is the same in every scene but for the names of what is in it."""

    async def made(scene: Scene) -> tuple[str, dict[str, str]]:
        names = vars(scene)
        return path.format_map(names), {
            name: names[value[1:-1]] if value[:1] + value[-1:] == "<>" else value
            for name, value in fields.items()
        }

    return made


async def sign_in_form(scene: Scene) -> tuple[str, dict[str, str]]:
    """A one-time address that has not been used."""
    return paths.SIGN_IN, {"token": await console.make_token(scene.desk.redis), "next": ""}


async def apply_form(scene: Scene) -> tuple[str, dict[str, str]]:
    """The plan that is shown now."""
    return paths.CONNECT_APPLY, {"seen": (await scene.setup.look()).seen}


TEXTS = {"name": "texts", "vendor": "messages", "ours.0": "text", "theirs.0": "sid"}

FORMS: Mapping[str, Form] = {
    paths.SIGN_IN: sign_in_form,
    paths.SIGN_OUT: form(paths.SIGN_OUT),
    paths.END_SESSION: form(paths.END_SESSION, id="<doomed>"),
    paths.CONNECT_STEP: form(f"{paths.CONNECT}/instance", instance_name="Desk"),
    paths.CONNECT_CHECK: form(paths.CONNECT_CHECK, open_connectors_user_secret="another"),
    paths.CONNECT_RETIRE: form(paths.CONNECT_RETIRE),
    paths.CONNECT_APPLY: apply_form,
    paths.CONNECT_DISCARD: form(paths.CONNECT_DISCARD),
    paths.REQUEST: form(paths.REQUEST, method="POST", path="/messages", data=TEXT, do="confirmed"),
    paths.MAPPING_EDIT: form(paths.MAPPING_EDIT, do="save", **TEXTS),
    paths.MAPPING_REMOVE: form(paths.MAPPING_REMOVE, name="texts", definition="yes"),
    paths.FORMULA_NEW: form(paths.FORMULA_NEW, template="<template>", **{"set:every": "5"}),
    paths.FORMULA_REMOVE: form(paths.FORMULA_REMOVE, id="<formula>"),
    paths.INSTANCE_TOKEN: form(paths.INSTANCE_TOKEN, password=PASSWORD),
    paths.TAKE + "/{id}": form(paths.TAKE + "/{theirs}"),
    paths.INSTANCE + "/{act}": form(paths.INSTANCE + "/rotate", instance="<ours>"),
}
"""By the routes that forms are sent to: one that acts where it is let."""

VIEWERS_TOO = {paths.SIGN_IN, paths.SIGN_OUT}


@pytest.fixture
async def scene(open_desk: Open, redis_server: str) -> AsyncIterator[Scene]:
    """A deployment that was set up and is being changed, with an instance and what goes with it."""
    given = load_given(None, BARE)
    async with running_sandbox() as base_url:
        desk = await open_desk(deployment=Deployment(given.partial(), redis_server, given))
        setup = await set_up(desk, given, base_url)
        deployment = desk.deployment
        async with open_provisioner(deployment) as provisioner:
            ours = (await provisioner.ensure()).id
        theirs, template = [
            str((await at_platform(base_url, path, body))["id"])
            for path, body in (("/instances", ELSEWHERE), ("/formulas", ONE))
        ]
        formula = (await create(deployment, template, {"every": "1"}, None)).id
        await save(deployment, await draft(deployment, "texts", {"text": "body"}, new=True))
        await console.set_password(desk.redis, PASSWORD)
        async with desk.browser() as doomed:
            await desk.sign_in(doomed, "viewer")
        (session,) = await console.sessions(desk.redis)
        yield Scene(desk, setup, ours, theirs, template, formula, session.id)


async def set_up(desk: Desk, given: Given, base_url: str) -> Setup:
    """Apply a setup, change its auth token, and leave a change that is not applied."""
    setup = Setup(desk.redis, given)
    values = {
        "open_connectors_base_url": base_url,
        "open_connectors_user_secret": USER,
        "open_connectors_organization_secret": ORGANIZATION,
        "twilio_account_sid": f"AC{'0' * 32}",
        "twilio_auth_token": AUTH_TOKEN,
        "twilio_sender": OURS,
    }
    for typed in (values, {"twilio_auth_token": "another-token-0123456789"}):
        await setup.type(typed, who="somebody")
        await setup.apply(who="somebody", via="console")
    await setup.type({"instance_name": "Typed"}, who="somebody")
    return setup


async def at_platform(base_url: str, path: str, body: Any) -> Any:
    """Make something as somebody does in the pages of Open Connectors."""
    headers = {"Authorization": f"User {USER}, Organization {ORGANIZATION}"}
    async with httpx.AsyncClient(trust_env=False, headers=headers) as client:
        answer = await client.post(base_url + path, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()


async def token_of(browser: httpx.AsyncClient) -> str:
    """Return what a session's own forms carry."""
    return field_of((await browser.get(paths.SESSIONS)).text, "csrf")


async def test_each_route_that_takes_forms_is_among_these(desk: Desk) -> None:
    """A new one would be tried by nobody."""
    app = pages_app(
        desk.redis,
        desk.readiness,
        desk.gather,
        deployment=desk.deployment,
        changed=lambda: None,
        ending=desk.ending,
        tls=False,
        every_s=1,
    )
    routes = [route for route in app.routes if isinstance(route, Route)]
    assert len(routes) == len(app.routes)
    assert all(route.methods for route in routes)
    writes = [each.path for each in routes if not present(each.methods) <= {"GET", "HEAD"}]
    assert sorted(writes) == sorted(FORMS)


@pytest.mark.parametrize("route", FORMS)
async def test_a_form_acts_for_whom_it_is_and_for_nobody_else(scene: Scene, route: str) -> None:
    """Who may only look, nobody at all, or another site's page would act in an operator's name."""
    desk = scene.desk
    async with (
        desk.browser() as operator,
        desk.browser() as other,
        desk.browser() as viewer,
        desk.browser() as stranger,
    ):
        await desk.sign_in(operator)
        await desk.sign_in(other)
        await desk.sign_in(viewer, "viewer")
        address, fields = await FORMS[route](scene)
        own = {"csrf": await token_of(operator)}
        fields["sent"] = "yes"  # A form with nothing in it would be refused for that.
        before = await scene.state()

        signed_out = await stranger.post(address, data=fields | own)
        if route == paths.SIGN_IN:
            assert signed_out.status_code == 403
        else:
            assert signed_out.status_code == 303
            assert signed_out.headers["location"].startswith(paths.SIGN_IN)
        assert await scene.state() == before, "signed out"
        refused = {
            "without a token": (operator, {}),
            "an empty token": (operator, {"csrf": ""}),
            "another session's token": (operator, {"csrf": await token_of(other)}),
        }
        if route not in VIEWERS_TOO:
            refused["a viewer"] = (viewer, {"csrf": await token_of(viewer)})
        for what, (browser, token) in refused.items():
            answer = await browser.post(address, data=fields | token)
            assert answer.status_code == 403, what
            assert await scene.state() == before, what
        # Nor is it done by opening its address.
        await operator.get(address, params=fields | own)
        assert await scene.state() == before, "opened"

        if route == paths.SIGN_IN:
            acted = await desk.enter(stranger, token=fields["token"])
        else:
            acted = await operator.post(address, data=fields | own)
        # What is typed for a check is kept, and then refused by the connector.
        assert acted.status_code in ({400} if route == paths.CONNECT_CHECK else {200, 303})
        assert await scene.state() != before
