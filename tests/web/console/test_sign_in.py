"""Signing in and out, and what keeps others from doing it."""

from __future__ import annotations

from typing import Any

import pytest

from service.operate import console
from service.operate.audit import trail
from tests.web.console.conftest import PASSWORD, field_of

pytestmark = pytest.mark.anyio

PAGES = ["/console", "/console/sessions", "/console/audit", "/console/keyboard", "/console/none"]


async def test_a_one_time_address_signs_in_and_leads_to_the_overview(
    desk: Any, browser: Any
) -> None:
    """Nobody would get in."""
    token = await console.make_token(desk.redis)
    answer = await desk.enter(browser, token=token)

    assert (answer.status_code, answer.headers["location"]) == (303, "/console")
    page = await browser.get("/console")
    assert (page.status_code, "<h1>Overview</h1>" in page.text) == (200, True)


async def test_looking_at_a_one_time_address_does_not_use_it_up(desk: Any, browser: Any) -> None:
    """A browser that fetches ahead, or a chat that makes a preview, would lock the operator out."""
    token = await console.make_token(desk.redis)
    for _ in range(3):
        page = await browser.get("/console/sign-in", params={"token": token})
        assert page.status_code == 200
    assert field_of(page.text, "token") == token

    answer = await desk.enter(browser, token=token)
    assert answer.status_code == 303


async def test_a_one_time_address_works_once(desk: Any, browser: Any) -> None:
    """Whoever finds it in a history would be in."""
    token = await console.make_token(desk.redis)
    assert (await desk.enter(browser, token=token)).status_code == 303
    async with desk.browser() as other:
        answer = await desk.enter(other, token=token)
        assert answer.status_code == 401
        assert "has been used" in answer.text
        assert "<code>parley console</code> again" in answer.text
        assert 'aria-describedby="token-problem"' in answer.text
        assert (await other.get("/console")).status_code == 303


async def test_the_address_may_be_pasted_as_it_was_printed(desk: Any, browser: Any) -> None:
    """Behind a forwarded port the printed address leads nowhere."""
    token = await console.make_token(desk.redis)
    printed = f"  http://127.0.0.1:8081/console/sign-in?token={token} \n"
    assert (await desk.enter(browser, token=printed)).status_code == 303


async def test_a_password_signs_in(desk: Any, browser: Any) -> None:
    """Whoever has no shell on the machine would never get in."""
    page = await browser.get("/console/sign-in")
    assert 'type="password"' not in page.text
    await console.set_password(desk.redis, PASSWORD)
    page = await browser.get("/console/sign-in")
    assert 'type="password"' in page.text
    assert (await desk.enter(browser, password=PASSWORD)).status_code == 303
    assert (await browser.get("/console")).status_code == 200


async def test_a_wrong_password_names_its_field_and_is_slowed_down(desk: Any, browser: Any) -> None:
    """Passwords could be guessed, or nobody would know which field is wrong."""
    await console.set_password(desk.redis, PASSWORD)
    answers = [await desk.enter(browser, password="wrong horse") for _ in range(8)]

    assert {answer.status_code for answer in answers} <= {401, 429}
    assert all('aria-describedby="password-problem"' in answer.text for answer in answers)
    last = answers[-1]
    assert last.status_code == 429
    assert int(last.headers["retry-after"]) > 0
    assert "try again in" in last.text.lower()
    assert (await desk.enter(browser, password=PASSWORD)).status_code == 429
    assert "wrong horse" not in "".join(answer.text for answer in answers)


@pytest.mark.parametrize("name", ["token", "password"])
async def test_a_form_with_nothing_in_it_is_told_what_goes_in(
    desk: Any, browser: Any, name: str
) -> None:
    """An empty field would count as a failed sign-in."""
    await console.set_password(desk.redis, PASSWORD)
    answer = await desk.enter(browser, **{name: "  "})
    assert answer.status_code == 400
    assert f'id="{name}-problem"' in answer.text


# --- where one comes back to -----------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES)
async def test_whoever_is_not_signed_in_is_sent_there_and_comes_back(
    desk: Any, browser: Any, page: str
) -> None:
    """A page would be shown to anybody, or a link in a chat would be lost on the way."""
    wanted = f"{page}?contains=replay" if page == "/console/audit" else page
    sent = await browser.get(wanted)
    assert sent.status_code == 303
    assert sent.headers["location"].startswith("/console/sign-in")
    token = await console.make_token(desk.redis)
    query = sent.headers["location"].removeprefix("/console/sign-in")
    answer = await desk.enter(browser, query, token=token)
    assert answer.headers["location"] == wanted


@pytest.mark.parametrize(
    "wanted",
    [
        "https://evil.example/",
        "//evil.example/console",
        "/\\evil.example",
        "\\\\evil.example",
        "/console//evil.example",
        "/console/../../evil",
        "/console/%2e%2e/x",
        "javascript:alert(1)",
        "/readyz",
        "/consoleevil",
        "/console/sign-out",
        "/console\n/x",
        "http:///console",
        "console",
        "/console/" + "a" * 600,
    ],
)
async def test_nobody_is_sent_anywhere_else(desk: Any, browser: Any, wanted: str) -> None:
    """An address that begins with ours would end at somebody who asks for the password again."""
    token = await console.make_token(desk.redis)
    page = await browser.get("/console/sign-in", params={"next": wanted})
    assert field_of(page.text, "next") == "/console"
    form = {"csrf": field_of(page.text, "csrf"), "next": wanted, "token": token}
    answer = await browser.post("/console/sign-in", data=form)
    assert (answer.status_code, answer.headers["location"]) == (303, "/console")


async def test_whoever_is_signed_in_does_not_sign_in_again(operator: Any) -> None:
    """A bookmark of the sign-in page would look like a session that has ended."""
    answer = await operator.get("/console/sign-in", params={"next": "/console/audit"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/console/audit")


# --- sessions and cookies --------------------------------------------------------------------


async def test_a_cookie_from_before_the_sign_in_is_never_the_session_s(
    desk: Any, browser: Any
) -> None:
    """Whoever planted a cookie in somebody's browser would be signed in along with them."""
    await browser.get("/console/sign-in")
    name = next(name for name in browser.cookies if "form" in name).replace("form", "session")
    planted = "planted" * 6
    browser.cookies.set(name, planted, domain="127.0.0.1", path="/console")
    await desk.sign_in(browser)
    assert planted not in [cookie.value for cookie in browser.cookies.jar]
    async with desk.browser() as attacker:
        attacker.cookies.set(name, planted, domain="127.0.0.1", path="/console")
        assert (await attacker.get("/console")).status_code == 303


async def test_a_new_sign_in_ends_the_browser_s_former_session(desk: Any, operator: Any) -> None:
    """A session that nobody can reach any more would live on for hours."""
    (former,) = await console.sessions(desk.redis)
    await desk.enter(operator, "?token=x", token=await console.make_token(desk.redis))
    (now,) = await console.sessions(desk.redis)
    assert now.id != former.id


async def test_cookies_are_for_this_site_and_no_script(desk: Any, browser: Any) -> None:
    """A script or another site's page could act as the operator."""
    answer = await desk.enter(browser, token=await console.make_token(desk.redis))
    session, form = answer.headers.get_list("set-cookie")
    port = desk.url.rpartition(":")[2]
    assert session.startswith(f"parley-session-{port}=")
    assert form.startswith(f"parley-form-{port}=")
    for cookie in (session, form):
        assert "; HttpOnly; " in cookie
        assert "SameSite=strict" in cookie
        assert "; Path=/console" in cookie
        assert "Secure" not in cookie


async def test_behind_tls_cookies_never_leave_without_it(open_desk: Any) -> None:
    """One request by plain http would give the session away."""
    desk = await open_desk(tls=True)
    async with desk.browser(x_forwarded_proto="http") as browser:
        page = await browser.get("/console/sign-in")
    (form,) = page.headers.get_list("set-cookie")
    assert form.startswith("__Host-parley-form-")
    assert "; Secure" in form
    assert "; Path=/;" in form


async def test_a_forwarding_header_is_not_believed(desk: Any) -> None:
    """Anybody can send it; cookies that are Secure by mistake never come back."""
    async with desk.browser(x_forwarded_proto="https", forwarded="proto=https") as browser:
        page = await browser.get("/console/sign-in")
    assert "Secure" not in page.headers["set-cookie"]


async def test_signing_out_ends_the_session_itself(desk: Any, operator: Any) -> None:
    """Whoever kept the cookie would stay in."""
    page = await operator.get("/console")
    kept = list(operator.cookies.jar)
    answer = await operator.post("/console/sign-out", data={"csrf": field_of(page.text, "csrf")})
    assert (answer.status_code, answer.headers["location"]) == (303, "/console/sign-in")
    assert not list(operator.cookies.jar)
    for cookie in kept:
        operator.cookies.jar.set_cookie(cookie)
    assert (await operator.get("/console")).status_code == 303
    (act, *_) = await trail(desk.redis)
    assert (act.what, act.via) == ("sign out", "console")


# --- forms of others -------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/console/sign-out", "/console/sessions/end"])
@pytest.mark.parametrize("csrf", ["none", "empty", "wrong", "another session's", "sign-in form's"])
async def test_a_form_without_the_session_s_token_does_nothing(
    desk: Any, operator: Any, path: str, csrf: str
) -> None:
    """A page of another site could sign people out, or end sessions."""
    (mine,) = await console.sessions(desk.redis)
    async with desk.browser() as other:
        sign_in = field_of((await other.get("/console/sign-in")).text, "csrf")
        await desk.sign_in(other)
        theirs = field_of((await other.get("/console")).text, "csrf")
    sent = {
        "none": {},
        "empty": {"csrf": ""},
        "wrong": {"csrf": "0" * 64},
        "another session's": {"csrf": theirs},
        "sign-in form's": {"csrf": sign_in},
    }[csrf]
    answer = await operator.post(path, data={"id": mine.id, **sent})
    assert answer.status_code == 403
    assert "not from this session" in answer.text
    assert len(await console.sessions(desk.redis)) == 2


@pytest.mark.parametrize("csrf", ["none", "wrong", "another browser's"])
async def test_a_sign_in_by_another_site_s_form_does_nothing(
    desk: Any, browser: Any, csrf: str
) -> None:
    """Somebody could be signed in by a stranger, and act under the stranger's name."""
    token = await console.make_token(desk.redis)
    await browser.get("/console/sign-in")
    async with desk.browser() as other:
        theirs = field_of((await other.get("/console/sign-in")).text, "csrf")
    sent = {"none": {}, "wrong": {"csrf": "0" * 64}, "another browser's": {"csrf": theirs}}[csrf]
    answer = await browser.post("/console/sign-in", data={"token": token, **sent})
    assert answer.status_code == 403
    assert not await console.sessions(desk.redis)
    assert (await desk.enter(browser, token=token)).status_code == 303


async def test_a_form_without_a_cookie_of_ours_does_nothing(desk: Any, browser: Any) -> None:
    """The token of no secret could be worked out by anybody."""
    token = await console.make_token(desk.redis)
    answer = await browser.post("/console/sign-in", data={"token": token, "csrf": ""})
    assert answer.status_code == 403


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        pytest.param(b"{}", "application/json", 415, id="JSON"),
        pytest.param(b"a=1", "text/plain", 415, id="what another site may send unasked"),
        pytest.param(b"a=" + b"1" * 20_000, "application/x-www-form-urlencoded", 413, id="long"),
        pytest.param(b"&".join([b"a=1"] * 50), "application/x-www-form-urlencoded", 400, id="many"),
        pytest.param(b"a=%ff", "application/x-www-form-urlencoded", 400, id="no UTF-8"),
        pytest.param(b"\xff", "application/x-www-form-urlencoded", 400, id="no text"),
    ],
)
async def test_what_is_no_form_of_ours_is_refused(
    browser: Any, body: bytes, kind: str, status: int
) -> None:
    """It would fill the memory, or end in a page that has failed."""
    answer = await browser.post("/console/sign-in", content=body, headers={"content-type": kind})
    assert answer.status_code == status
