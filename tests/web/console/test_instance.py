"""The page of the instance, at the real sandbox: what it shows, and what it does after asking."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from service.operate import console
from service.operate.audit import Act, trail
from service.operate.deployment import Deployment
from service.operate.instance import open_provisioner
from service.settings.loading import load_settings
from service.settings.setup import load_given
from tests.connector.pieces import AUTH_TOKEN, ORGANIZATION, OURS, USER
from tests.sandboxed import Platform, bare, deployment, environ, platform, token
from tests.web.console.conftest import PASSWORD, UNANSWERED, Desk, Open, field_of

__all__ = ["bare", "deployment", "environ", "platform", "token"]

pytestmark = pytest.mark.anyio

PAGE = "/console/instance"
ACTS = ("apply", "enable", "disable", "rotate", "remove")

ELSEWHERE: dict[str, Any] = {
    "element": {"key": "twilio"},
    "name": "<b>by hand</b>",
    "tags": ["billing"],
    "configuration": {
        "messaging.sms.twilio.protocol": "sms",
        "messaging.sms.twilio.account": f"AC{'0' * 32}",
        "messaging.sms.twilio.sender": OURS,
        "messaging.sms.twilio.token": "older",
        "messaging.sms.twilio.callback.url": "https://me:hunter2@old.example.com/sms",
    },
}

Browse = Callable[..., Any]


@pytest.fixture
async def desk(open_desk: Open, bare: Deployment) -> Desk:
    """A console whose connector is the sandbox; `token` provisions an instance."""
    return await open_desk(deployment=bare)


async def kept_id(bare: Deployment) -> str:
    """The id of the instance in use, "" without one."""
    async with open_provisioner(bare) as provisioner:
        kept = await provisioner.stored()
        return kept.id if kept is not None else ""


async def newest(desk: Desk) -> Act:
    """The newest act in the trail."""
    return (await trail(desk.redis, count=1))[0]


async def post(browser: httpx.AsyncClient, path: str, **fields: str) -> httpx.Response:
    """Send the form of a page, its hidden fields as they are."""
    page = await browser.get(path)
    assert page.status_code == 200, page.text
    form = {"csrf": field_of(page.text, "csrf")}
    if 'name="instance"' in page.text:
        form["instance"] = field_of(page.text.partition("decide-form")[2], "instance")
    return await browser.post(path, data=form | fields)


@pytest.fixture
async def formula(platform: Platform, token: str, bare: Deployment) -> str:
    """The name of a formula that uses the instance."""
    entry = {"key": "x", "name": "x", "type": "elementInstance"}
    made = await platform("POST", "/formulas", {"name": "To CRM", "configuration": [entry]})
    body = {"name": "nightly & more", "configuration": {"x": await kept_id(bare)}}
    await platform("POST", f"/formulas/{made['id']}/instances", body)
    return "To CRM / nightly &amp; more"


async def test_it_shows_how_the_instance_stands_and_no_secret(
    operator: Any, bare: Deployment, token: str, formula: str
) -> None:
    """The operator would have to sign in at Open Connectors, or the page would tell a secret."""
    text = (await operator.get(PAGE)).text
    assert "<h2>As it should be</h2>" in text
    assert f"<code>{await kept_id(bare)}</code>" in text
    assert "https://sms.example.com/callbacks/twilio" in text
    assert "messaging.sms.twilio.sender" in text
    assert formula in text
    assert "create an instance" in text
    assert ">differs</span>" not in text
    for secret in (token, AUTH_TOKEN, USER, ORGANIZATION):
        assert secret not in text
    assert "parley connector show" in text


async def test_what_somebody_has_changed_is_marked(
    operator: Any, bare: Deployment, token: str, platform: Platform
) -> None:
    """Texts would go elsewhere, and the page would look as ever."""
    change = {"configuration": {"messaging.sms.twilio.callback.url": "https://x:hunter2@evil/"}}
    await platform("PATCH", f"/instances/{await kept_id(bare)}", change | {"name": "<i>mine"})
    text = (await operator.get(PAGE)).text
    assert "It is not as it should be" in text
    assert text.count(">differs</span>") == 2
    assert "https://********@evil/" in text
    assert "hunter2" not in text
    assert "<i>mine" not in text
    assert text.index("messaging.sms.twilio.callback.url") < text.index("twilio.protocol")

    fixed = await post(operator, f"{PAGE}/apply")
    assert (fixed.status_code, fixed.headers["location"]) == (303, f"{PAGE}?done=apply")
    text = (await operator.get(f"{PAGE}?done=apply")).text
    assert "<h2>As it should be</h2>" in text
    assert "The instance is as it should be." in text
    assert "messaging.sms.twilio.callback.url" in text


async def test_a_word_in_the_address_is_not_shown(operator: Any, token: str) -> None:
    """A link could have the console say what never was."""
    text = (await operator.get(f"{PAGE}?done=<b>paid")).text
    assert "notice" not in text


async def test_without_an_instance_it_says_what_to_do_and_makes_one(
    operator: Any, bare: Deployment
) -> None:
    """The page would be empty just when somebody needs a hint."""
    text = (await operator.get(PAGE)).text
    assert "There is no instance yet" in text
    assert f'href="{PAGE}/apply"' in text
    asked = (await operator.get(f"{PAGE}/apply")).text
    assert "create an instance" in asked
    assert AUTH_TOKEN not in asked
    assert (await operator.get(f"{PAGE}/remove")).headers["location"] == PAGE
    assert (await post(operator, f"{PAGE}/apply")).status_code == 303
    assert await kept_id(bare)


async def test_what_is_not_set_up_leads_to_connect(
    open_desk: Open, environ: dict[str, str]
) -> None:
    """A page of missing settings would be the first that a new operator sees."""
    given = load_given(None, {name: environ[name] for name in ("PUBLIC_URL", "SECRET_KEY")})
    bare = Deployment(given.partial(), environ["REDIS_URL"], given)
    desk = await open_desk(deployment=bare)
    async with desk.browser() as browser:
        await desk.sign_in(browser)
        text = (await browser.get(PAGE)).text
        assert "Not set up yet" in text
        assert 'href="/console/connect"' in text
        assert "parley connect<" in text
        for path in ("apply", "remove", "take", "take/12"):
            assert (await browser.get(f"{PAGE}/{path}")).headers["location"] == PAGE


async def test_one_that_is_gone_at_the_connector_is_told(
    operator: Any, bare: Deployment, token: str, platform: Platform
) -> None:
    """Replies wait, and nobody would know for what."""
    await platform("DELETE", f"/instances/{await kept_id(bare)}")
    text = (await operator.get(PAGE)).text
    assert "Open Connectors does not have it any more" in text


async def test_a_connector_that_does_not_answer_is_told_with_what_to_do(open_desk: Open) -> None:
    """The page would fail, and what Redis knows would go unseen."""
    desk = await open_desk(environ=UNANSWERED)
    async with desk.browser() as browser:
        await desk.sign_in(browser)
        for path in (PAGE, f"{PAGE}/apply", f"{PAGE}/take"):
            answer = await browser.get(path)
            assert answer.status_code == 200
            assert "OPEN_CONNECTORS_BASE_URL" in answer.text
        failed = await post(browser, f"{PAGE}/apply")
        assert (failed.status_code, "It was not done" in failed.text) == (502, True)
    act = await newest(desk)
    assert (act.what, act.outcome) == ("connector apply", "failed: ConnectorUnreachable")


async def test_disabling_and_enabling_ask_first_and_are_noted(
    desk: Desk, operator: Any, bare: Deployment, platform: Platform, formula: str
) -> None:
    """A slip of the mouse would stop replies."""
    id_ = await kept_id(bare)
    asked = (await operator.get(f"{PAGE}/disable")).text
    assert "A service that runs switches it on again" in asked
    assert "parley connector disable" in asked
    assert formula in asked
    assert (await platform("GET", f"/instances/{id_}"))["disabled"] is False
    done = await post(operator, f"{PAGE}/disable")
    assert done.headers["location"] == f"{PAGE}?done=disable"
    assert (await platform("GET", f"/instances/{id_}"))["disabled"] is True
    assert "It is switched off" in (await operator.get(PAGE)).text
    act = await newest(desk)
    assert (act.via, act.what, act.about) == ("console", "connector disable", f"instance {id_}")
    assert act.who.startswith("operator by one-time address, session ")
    await post(operator, f"{PAGE}/enable")
    assert (await platform("GET", f"/instances/{id_}"))["disabled"] is False


async def test_a_service_that_only_reports_is_said_to(
    open_desk: Open, environ: dict[str, str], token: str
) -> None:
    """Somebody would wait for a repair that never comes."""
    settings = load_settings(None, environ | {"CONNECTOR_REPAIR": "report"})
    desk = await open_desk(deployment=Deployment(settings, environ["REDIS_URL"]))
    async with desk.browser() as browser:
        await desk.sign_in(browser)
        assert "reports it" in (await browser.get(PAGE)).text
        asked = (await browser.get(f"{PAGE}/disable")).text
        assert "switches it on again" not in asked
        assert "The service leaves it off" in asked
        await post(browser, f"{PAGE}/disable")
        assert "CONNECTOR_REPAIR" in (await browser.get(PAGE)).text


async def test_replacing_says_which_formulas_stop_and_makes_a_new_one(
    desk: Desk, operator: Any, bare: Deployment, token: str, formula: str
) -> None:
    """A formula would stop, and nobody would have been told."""
    before = await kept_id(bare)
    asked = (await operator.get(f"{PAGE}/rotate")).text
    assert "1 formula of Open Connectors uses it:" in asked
    assert formula in asked
    await post(operator, f"{PAGE}/rotate")
    after = await kept_id(bare)
    assert after not in {before, ""}
    act = await newest(desk)
    assert (act.what, act.about) == ("connector rotate", f"instance {after}")


async def test_deleting_leaves_none(
    operator: Any, bare: Deployment, token: str, platform: Platform
) -> None:
    """The end of a deployment would leave its instance behind."""
    assert "No formula of Open Connectors uses it." in (await operator.get(f"{PAGE}/remove")).text
    await post(operator, f"{PAGE}/remove")
    assert await kept_id(bare) == ""
    assert await platform("GET", "/instances") == []
    text = (await operator.get(f"{PAGE}?done=remove")).text
    assert "The instance is deleted." in text
    assert "There is no instance yet" in text


async def test_what_is_done_is_done_to_the_instance_that_was_seen(
    desk: Desk, operator: Any, bare: Deployment, token: str
) -> None:
    """A page that was left open would delete the instance that took the place of another."""
    form = {
        "csrf": field_of((await operator.get(f"{PAGE}/remove")).text, "csrf"),
        "instance": await kept_id(bare),
    }
    await post(operator, f"{PAGE}/rotate")
    after = await kept_id(bare)
    answer = await operator.post(f"{PAGE}/remove", data=form)
    assert answer.status_code == 409
    assert f"Instance {after} is in use now; look at it again" in answer.text
    assert await kept_id(bare) == after
    assert (await newest(desk)).what == "connector rotate"


@pytest.mark.usefixtures("token")
@pytest.mark.parametrize("path", [*ACTS, "take/{made}", "token"])
async def test_only_an_operator_with_the_page_s_own_form_acts(
    desk: Desk, viewer: Any, operator: Any, platform: Platform, path: str
) -> None:
    """Who may only look, or another site's page, would act."""
    before = await kept_id(desk.deployment)
    await console.set_password(desk.redis, PASSWORD)
    path = path.format(made=(await platform("POST", "/instances", ELSEWHERE))["id"])
    assert "decide-form" in (await operator.get(f"{PAGE}/{path}")).text
    seen = await viewer.get(f"{PAGE}/{path}")
    assert "<strong>Viewer</strong>" in seen.text
    assert "decide-form" not in seen.text
    form = {"csrf": field_of(seen.text, "csrf"), "instance": before, "password": PASSWORD}
    assert (await viewer.post(f"{PAGE}/{path}", data=form)).status_code == 403
    assert (await operator.post(f"{PAGE}/{path}", data=form)).status_code == 403
    async with desk.browser() as stranger:
        answer = await stranger.post(f"{PAGE}/{path}", data=form)
        assert answer.headers["location"].startswith("/console/sign-in")
        assert (await stranger.get(f"{PAGE}/{path}")).status_code == 303
    assert await kept_id(desk.deployment) == before


async def test_a_viewer_sees_the_page_without_what_acts(viewer: Any, token: str) -> None:
    """Buttons that refuse would be all there is."""
    text = (await viewer.get(PAGE)).text
    assert "<h2>As it should be</h2>" in text
    assert f"{PAGE}/rotate" not in text
    assert f"{PAGE}/token" not in text
    assert "you are signed in as a viewer" in text


async def test_there_is_no_other_act(operator: Any, token: str) -> None:
    """An address that was mistyped would fail instead of saying so."""
    for path in ("rekey", "forget", "APPLY", "take/<b>", "take/a b"):
        assert (await operator.get(f"{PAGE}/{path}")).status_code == 404


async def test_an_instance_made_elsewhere_is_listed_and_taken_over(
    desk: Desk, operator: Any, bare: Deployment, platform: Platform, formula: str
) -> None:
    """What a team has made in the pages of Open Connectors would have to be made again."""
    former = await kept_id(bare)
    made = await platform("POST", "/instances", ELSEWHERE)
    theirs = ELSEWHERE["configuration"] | {"messaging.sms.twilio.account": "AC" + "9" * 32}
    other = await platform("POST", "/instances", ELSEWHERE | {"configuration": theirs})
    listed = (await operator.get(f"{PAGE}/take")).text
    assert "<b>by hand" not in listed
    assert "hunter2" not in listed
    assert f'href="{PAGE}/take/{made["id"]}"' in listed
    assert f'href="{PAGE}/take/{other["id"]}"' not in listed
    assert "It is of another Twilio account" in listed
    assert "In use" in listed

    asked = (await operator.get(f"{PAGE}/take/{made['id']}")).text
    assert f"take over instance {made['id']}" in asked
    assert "tags: [&#39;billing&#39;] → [&#39;billing&#39;, &#39;parley&#39;]" in asked
    assert formula in asked
    assert f"parley connector take {made['id']}" in asked
    for secret in (made["token"], "hunter2", AUTH_TOKEN):
        assert secret not in asked
    assert await kept_id(bare) == former

    done = await post(operator, f"{PAGE}/take/{made['id']}")
    assert done.headers["location"] == f"{PAGE}?done=take"
    assert await kept_id(bare) == str(made["id"])
    act = await newest(desk)
    assert (act.what, act.about) == ("connector take", f"instance {made['id']}")
    assert "The instance is taken over" in (await operator.get(done.headers["location"])).text


async def test_one_that_can_not_be_taken_over_is_refused_with_the_reason(
    operator: Any, bare: Deployment, token: str
) -> None:
    """A list that was left open would offer what is gone."""
    for id_, reason in {
        "999": "There is no instance 999 at the connector.",
        await kept_id(bare): "is ours already",
    }.items():
        page = await operator.get(f"{PAGE}/take/{id_}")
        assert page.status_code == 409
        assert reason in page.text
        form = {"csrf": field_of(page.text, "csrf")}
        assert (await operator.post(f"{PAGE}/take/{id_}", data=form)).status_code == 409


async def test_a_token_that_no_key_opens_is_told(
    open_desk: Open, environ: dict[str, str], token: str
) -> None:
    """A lost SECRET_KEY would be a page that fails."""
    settings = load_settings(None, environ | {"SECRET_KEY": "another" * 8})
    desk = await open_desk(deployment=Deployment(settings, environ["REDIS_URL"]))
    async with desk.browser() as browser:
        await desk.sign_in(browser)
        answer = await browser.get(PAGE)
        assert answer.status_code == 200
        assert "SECRET_KEY" in answer.text


async def test_a_redis_that_was_laid_out_otherwise_is_told(
    open_desk: Open, environ: dict[str, str], token: str
) -> None:
    """The page would say that it has failed, where one setting is to be put back."""
    settings = load_settings(None, environ | {"PARTITIONS": "8"})
    desk = await open_desk(deployment=Deployment(settings, environ["REDIS_URL"]))
    async with desk.browser() as browser:
        await desk.sign_in(browser)
        form = {"csrf": field_of((await browser.get("/console/sessions")).text, "csrf")}
        for answer in (
            *[await browser.get(f"{PAGE}{path}") for path in ("", "/apply", "/take/12")],
            await browser.get("/console/docs"),
            await browser.post(f"{PAGE}/apply", data=form),
        ):
            assert answer.status_code == 503, answer.url
            assert "set PARTITIONS=16, or use an empty Redis database" in answer.text
