"""What people see who are signed in, and what they may do."""

from __future__ import annotations

from typing import Any

import pytest

from service.core import metrics as m
from service.core.tally import Figures
from service.operate import console
from service.operate.audit import note, trail
from service.web.internal.app import Check
from tests.web.console.conftest import field_of

pytestmark = pytest.mark.anyio

PAGES = ["/console", "/console/sessions", "/console/audit", "/console/keyboard"]

AWAY = "redis://127.0.0.1:1"


async def test_the_overview_shows_what_is_ready_and_what_waits(desk: Any, operator: Any) -> None:
    """The operator would look into the log for what the service knows."""
    desk.checks = {
        "redis": Check(ok=True),
        "instance": Check(ok=False, detail="connector: 401 <b>refused</b>"),
    }
    desk.figures = Figures(
        counters={m.TEXTS.name: {"answered": 12_345}},
        gauges={
            m.REDIS_UP.name: {"": 1},
            m.INBOX.name: {"0": 3, "7": 4},
            m.OUTBOX.name: {"0": 0, "7": 1},
            m.INBOX_OLDEST.name: {"0": 5.0, "7": 200.0},
            m.OUTBOX_OLDEST.name: {"0": 0, "7": 20.0},
            m.DEAD_LETTERS.name: {"": 2},
            m.PROCESSES.name: {"": 1},
            m.PROCESSES_WANTED.name: {"": 2},
            m.BREAKER.name: {"open": 1, "closed": 1},
        },
    )
    text = (await operator.get("/console")).text

    assert "<h2>Not ready</h2>" in text
    assert "Connector instance: connector: 401 &lt;b&gt;refused&lt;/b&gt;" in text
    assert "12,345" in text
    assert "the oldest for 3 min" in text
    assert text.index('<td role="cell">07</td>') < text.index('<td role="cell">00</td>')
    assert '<span class="of"> of 2</span>' in text
    assert "one reply at a time is tried, in 1 process." in text
    assert "parley dead list" in text


async def test_the_overview_says_what_redis_does_not(desk: Any, operator: Any) -> None:
    """Zeros would look like a service that has nothing to do."""
    desk.figures = Figures(gauges={m.REDIS_UP.name: {"": 0}})
    text = (await operator.get("/console")).text
    assert text.count("Redis does not say") == 4
    assert "none waits" not in text


async def test_sessions_are_listed_with_what_they_came_from(desk: Any, operator: Any) -> None:
    """A stranger's session would go unnoticed, or its User-Agent would run as markup."""
    async with desk.browser(user_agent="<script>alert(1)</script>") as other:
        await desk.sign_in(other, "viewer")
    text = (await operator.get("/console/sessions")).text

    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert text.count("127.0.0.1</span>") >= 2
    assert text.count("This one") == 1
    assert "viewer by one-time address" in text
    assert 'title="20' in text


async def test_an_operator_ends_a_session_and_that_is_noted(desk: Any, operator: Any) -> None:
    """A stranger could not be put out, or nobody would know who did it."""
    async with desk.browser() as other:
        await desk.sign_in(other)
        theirs = (await console.sessions(desk.redis))[0]
        page = await operator.get("/console/sessions")
        form = {"csrf": field_of(page.text, "csrf"), "id": theirs.id}
        answer = await operator.post("/console/sessions/end", data=form)
        assert (answer.status_code, answer.headers["location"]) == (303, "/console/sessions")
        assert (await other.get("/console")).status_code == 303
        again = await operator.post("/console/sessions/end", data=form)
        assert (again.status_code, "has ended already" in again.text) == (404, True)
    (act, *_) = await trail(desk.redis)
    assert (act.what, act.via, theirs.id in act.about) == ("console end", "console", True)
    assert act.who.startswith("operator by one-time address, session ")


@pytest.mark.parametrize("page", PAGES)
async def test_a_viewer_sees_every_page(viewer: Any, page: str) -> None:
    """Somebody who is to watch could not."""
    answer = await viewer.get(page)
    assert answer.status_code == 200
    assert "<strong>Viewer</strong>" in answer.text


async def test_a_viewer_ends_no_session_but_may_sign_out(desk: Any, viewer: Any) -> None:
    """Who may only look would act."""
    page = (await viewer.get("/console/sessions")).text
    assert "/console/sessions/end" not in page
    assert "Operators can end one." in page
    (session,) = await console.sessions(desk.redis)
    form = {"csrf": field_of(page, "csrf"), "id": session.id}
    answer = await viewer.post("/console/sessions/end", data=form)
    assert answer.status_code == 403
    assert "Sign in as an operator" in answer.text, answer.text
    assert len(await console.sessions(desk.redis)) == 1
    assert (await viewer.post("/console/sign-out", data=form)).status_code == 303
    assert not await console.sessions(desk.redis)


async def test_the_trail_is_read_from_the_newest_to_the_oldest(desk: Any, operator: Any) -> None:
    """What was done last month could not be found."""
    for number in range(120):
        await note(
            desk.redis,
            who="root@host",
            via="command",
            what="dead replay",
            about=f"entry {number:03}",
        )
    seen: list[str] = []
    path, pages = "/console/audit", 0
    while path:
        text = (await operator.get(path)).text
        seen += [f"{n:03}" for n in reversed(range(120)) if f">entry {n:03}<" in text]
        pages += 1
        found = text.rpartition('rel="next"')[0].rpartition('href="')[2].partition('"')[0]
        path = found.replace("&amp;", "&") if 'rel="next"' in text else ""
    assert pages == 3
    assert seen == [f"{number:03}" for number in reversed(range(120))]


async def test_the_trail_is_searched_and_shows_the_command_for_it(desk: Any, operator: Any) -> None:
    """The one act that matters would be looked for by eye."""
    for about in ("entry 1", "it's <i>"):
        await note(desk.redis, who="root@host", via="command", what="dead drop", about=about)
    found = await operator.get("/console/audit", params={"contains": "IT'S <i>"})
    assert "it&#39;s &lt;i&gt;" in found.text
    assert "entry 1" not in found.text
    assert "parley audit --contains &#39;IT&#39;&#34;&#39;&#34;&#39;S &lt;i&gt;&#39;" in found.text
    nothing = await operator.get("/console/audit", params={"contains": "zzz"})
    assert "No entry contains “zzz”" in nothing.text
    odd = await operator.get("/console/audit", params={"before": "1-0-0"})
    assert odd.status_code == 400


async def test_a_page_that_is_not_there_says_so_in_the_console(operator: Any) -> None:
    """Somebody who mistyped would land outside."""
    answer = await operator.get("/console/none/../at-all")
    assert answer.status_code == 404
    assert "There is nothing here" in answer.text
    assert 'aria-label="Pages"' in answer.text
    assert (await operator.post("/console/audit")).status_code == 405
    assert (await operator.put("/console")).status_code == 405


@pytest.mark.parametrize("path", [*PAGES, "/console/sign-in", "/console/none"])
async def test_without_redis_a_page_says_so(open_desk: Any, path: str) -> None:
    """The operator would see a failure just when the console matters."""
    desk = await open_desk(redis_url=AWAY)
    async with desk.browser() as browser:
        sign_in = await browser.get("/console/sign-in")
        name = f"parley-session-{desk.url.rpartition(':')[2]}"
        browser.cookies.set(name, "x" * 43, domain="127.0.0.1", path="/console")
        answer = await browser.get(path)
    for page in (sign_in, answer):
        assert page.status_code == 503
        assert int(page.headers["retry-after"]) > 0
        assert "<h1>Redis does not answer</h1>" in page.text
        assert "parley ready" in page.text
        assert "frame-ancestors" in page.headers["content-security-policy"]


async def test_a_page_that_fails_says_no_more_than_that(desk: Any, operator: Any) -> None:
    """An error's text may hold an address with a password in it."""
    desk.figures = "secret"  # Which nothing can be read of.
    answer = await operator.get("/console")
    assert answer.status_code == 500
    assert "the log of the service says why" in answer.text
    assert "secret" not in answer.text
    assert "frame-ancestors" in answer.headers["content-security-policy"]
