"""The instance's API on pages, and requests made from them, at the real sandbox."""

from __future__ import annotations

import json
import re
from html import unescape
from typing import Any

import pytest

from service.core.open_connectors.hub_request import read_request
from service.operate.audit import trail
from service.operate.deployment import Deployment
from service.operate.hub_requests import send
from service.settings.loading import load_settings
from tests.connector.pieces import AUTH_TOKEN, BASE, ORGANIZATION, OURS, THEIRS, USER
from tests.web.console.asked import form_on, submit

pytestmark = pytest.mark.anyio

TEXT = json.dumps({"To": THEIRS, "From": OURS, "Body": "it's <5> o'clock"})

REQUEST = "/console/request"


async def log_of(deployment: Any) -> Any:
    """Read the instance's message log."""
    return (await send(deployment, read_request("GET", "/messages"))).body


async def test_what_the_instance_can_be_asked_is_listed_by_resource(connected: Any) -> None:
    """Nobody would know what there is without a terminal."""
    text = (await connected.get("/console/docs")).text
    assert "Twilio SMS, as it describes its own API" in text
    assert re.findall(r'id="resource-\d">([^<]*)<', text) == ["messages"]
    for operation in ("getMessages", "createMessage", "getMessageById", "getPing"):
        assert f"/console/docs?operation={operation}" in text
    assert "<code>parley connector docs</code>" in text


async def test_it_is_searched_and_shows_the_command_for_it(connected: Any) -> None:
    """The one operation that matters would be looked for by eye."""
    text = (await connected.get("/console/docs", params={"q": "PICTURES"})).text
    assert re.findall(r"docs\?operation=(\w+)", text) == ["getMessageMedia"]
    assert "parley connector docs --search PICTURES" in text
    nothing = (await connected.get("/console/docs", params={"q": "<zzz>"})).text
    assert "No operation says “&lt;zzz&gt;”" in nothing


async def test_an_operation_is_shown_with_parameters_models_and_examples(connected: Any) -> None:
    """What it takes and answers would have to be read from JSON."""
    text = (await connected.get("/console/docs?operation=getMessages")).text
    assert "<code>pageSize</code>" in text
    assert "integer, in the query" in text
    assert "Answer 200: a list of <code>message</code>" in text
    assert "<code>date_sent</code>" in text
    assert "&#34;direction&#34;</span>:" in text
    assert "parley connector request GET /messages --query pageSize=5" in text
    assert "/console/request?operation=getMessages" in text


async def test_an_operation_that_there_is_none_of_is_said_with_what_may_be_meant(
    connected: Any,
) -> None:
    """A link of last month would end at a failure."""
    for page in ("/console/docs", REQUEST):
        answer = await connected.get(page, params={"operation": "getMesages<"})
        assert answer.status_code == 404
        assert "The instance describes no operation getMesages&lt;. Is getMessages" in answer.text


async def test_a_request_is_made_with_the_token_which_no_page_shows(
    connected: Any, deployment: Any, token: str
) -> None:
    """The browser would hold what anybody can act with as the instance."""
    await send(deployment, read_request("POST", "/messages", (), TEXT))
    page = (await connected.get(f"{REQUEST}?operation=getMessages")).text
    assert form_on(page, REQUEST)["query:pageSize"] == "5"
    answer = await submit(connected, page, REQUEST, {"query:pageSize": "1", "do": "send"})

    assert answer.status_code == 200
    text = unescape(answer.text)
    assert '"body"</span>: "it\'s <5> o\'clock"' in text
    assert re.search(r'data-state="ok">200</span><span class="quiet">in \d+ ms, [\d,]+ bytes', text)
    assert "elements-returned-count" in text
    assert "pageSize=1'" in text  # For curl.
    assert "Element $INSTANCE_TOKEN" in text
    assert "httpx.request(" in text
    assert "parley connector request GET /messages --query pageSize=1" in text
    for secret in (token, USER, ORGANIZATION, AUTH_TOKEN):
        assert secret not in text
    assert form_on(answer.text, REQUEST)["query:pageSize"] == "1"  # As it was typed.


async def test_what_may_change_something_asks_first_and_is_noted_without_a_word_of_it(
    connected: Any, connected_desk: Any, deployment: Any
) -> None:
    """A text would go out by a slip, or nobody would know who sent it."""
    page = (await connected.get(f"{REQUEST}?operation=createMessage")).text
    typed = {"data": TEXT, "do": "send", "query": "note=+15005550123"}
    asked = await submit(connected, page, REQUEST, typed)
    assert "Send this request?" in asked.text
    assert await log_of(deployment) == []

    back = await submit(connected, asked.text, REQUEST, {"do": "edit"})
    assert form_on(back.text, REQUEST)["data"] == TEXT
    assert await log_of(deployment) == []

    sent = await submit(connected, asked.text, REQUEST, {"do": "confirmed"})
    assert 'data-state="ok">200</span>' in sent.text
    assert [row["body"] for row in await log_of(deployment)] == ["it's <5> o'clock"]
    (act, *_) = await trail(connected_desk.redis)
    assert (act.what, act.via, act.outcome) == ("connector request", "console", "answered 200")
    assert act.about == "POST /hubs/messaging/messages"
    assert act.who.startswith("operator by one-time address, session ")


async def test_it_can_be_written_for_others_without_being_sent(
    connected: Any, deployment: Any
) -> None:
    """Whoever wants it for a ticket would have to send a text for it."""
    page = (await connected.get(f"{REQUEST}?operation=createMessage")).text
    answer = await submit(connected, page, REQUEST, {"data": TEXT, "do": "write"})
    assert "curl -X POST" in answer.text
    assert "import httpx" in answer.text
    assert await log_of(deployment) == []


@pytest.mark.parametrize(
    ("typed", "where", "says"),
    [
        ({"path": "messages"}, "path", "Begins with / and names a resource"),
        ({"path": "/instances"}, "path", "Is the platform&#39;s, not the instance&#39;s"),
        ({"path": "/../../instances"}, "path", "&#34;..&#34;; say one such as /messages."),
        ({"path": "//evil.example/x"}, "path", "Has no blanks"),
        ({"path": "/messages/{id}"}, "path", "The path has {id}: say what goes there."),
        ({"path": "/x/{id}", "path:id": ""}, "field-1", "The path has {id}: say what goes there."),
        (
            {"path": "/x/{id}", "path:id": "a/b"},
            "field-1",
            "Is one part of the path: without",
        ),
        ({"path": "/x/{id}", "path:id": "a%2Fb"}, "field-1", "written plainly or as escapes"),
        ({"path": "/x/{id}", "path:id": "SM nope"}, "field-1", "and blanks"),
        ({"path": "/x/{id}", "path:id": ".."}, "field-1", "and not &#34;.&#34; or &#34;..&#34;"),
        ({"path": "/x/{id}", "path:id": "é" * 400}, "field-1", "Longer than 2000 characters"),
        ({"path": "/x y/{id}", "path:id": "SM1"}, "path", "Has no blanks"),
        ({"query": "pageSize"}, "query", "Say name=value, such as pageSize=5."),
        ({"method": "POST", "data": "{'a'}"}, "data", "Is no JSON: Expecting property name"),
        ({"method": "GET", "data": "{}"}, "data", "A GET has no body."),
        ({"method": "TRACE"}, "method", "One of GET, HEAD, POST, PUT, PATCH, DELETE."),
    ],
    ids=lambda value: "-".join(value.values())[:30] if isinstance(value, dict) else "",
)
async def test_bad_input_is_said_at_its_field_and_kept(
    connected: Any, typed: dict[str, str], where: str, says: str
) -> None:
    """What somebody typed would be gone, or they would not know what was wrong with it."""
    page = (await connected.get(REQUEST)).text
    wanted = {"path": "/messages", "do": "send"} | typed
    answer = await submit(connected, page, REQUEST, wanted)
    assert answer.status_code == 400
    (problem,) = re.findall(
        r'class="problem" id="([\w-]+)-problem" role="alert">(.*)</p>', answer.text
    )
    assert problem[0] == where
    assert says in problem[1]
    assert f'aria-describedby="{where}-problem"' in answer.text
    kept = form_on(answer.text, REQUEST)
    for name, value in typed.items():
        assert name == "method" or kept[name] == value


async def test_a_refusal_is_shown_with_its_request_id_and_what_to_do(connected: Any) -> None:
    """The connector's support asks for it first."""
    page = (await connected.get(f"{REQUEST}?operation=getMessageById")).text
    answer = await submit(connected, page, REQUEST, {"path:id": "SM nope", "do": "send"})
    assert answer.status_code == 400  # A blank is none of an address.
    assert re.findall(r'id="([\w-]+)-problem"', answer.text) == ["field-1"]
    answer = await submit(connected, page, REQUEST, {"path:id": "SMnope", "do": "send"})
    assert answer.status_code == 200
    assert 'data-state="trouble">404</span>' in answer.text
    assert "404: No message found with sid SMnope" in answer.text
    assert "requestId: " in answer.text
    assert "TWILIO_ACCOUNT_SID" in answer.text


async def test_what_is_answered_can_only_be_read(connected: Any, deployment: Any) -> None:
    """A text would run as markup, or turn the page's letters around."""
    text = json.dumps(
        {"To": THEIRS, "From": OURS, "Body": "<script>alert(1)</script>\u202e\x1b[2J"}
    )
    await send(deployment, read_request("POST", "/messages", (), text))
    page = (await connected.get(f"{REQUEST}?operation=getMessages")).text
    answer = (await submit(connected, page, REQUEST, {"do": "send"})).text
    assert "<script>alert" not in answer
    assert "&lt;script&gt;alert(1)" in answer
    assert "\u202e" not in answer
    assert "\x1b" not in answer


async def test_a_viewer_reads_and_asks_nothing(
    connected_desk: Any, connected: Any, deployment: Any
) -> None:
    """Who may only look would send texts, or read those of others."""
    async with connected_desk.browser() as viewer:
        await connected_desk.sign_in(viewer, "viewer")
        operation = (await viewer.get("/console/docs?operation=createMessage")).text
        assert REQUEST not in operation
        page = (await viewer.get(REQUEST)).text
        assert 'value="send"' not in page
        for do in ("send", "confirmed", "write"):
            changes = {"method": "POST", "path": "/messages", "data": TEXT, "do": do}
            answer = await submit(viewer, page, REQUEST, changes)
            assert answer.status_code == 403
            assert "Sign in as an operator" in answer.text
    assert await log_of(deployment) == []


async def test_a_form_of_another_session_sends_nothing(connected: Any, deployment: Any) -> None:
    """A page of another site could send texts by an operator's browser."""
    changes = {"csrf": "x", "method": "POST", "path": "/messages", "data": TEXT, "do": "confirmed"}
    page = (await connected.get(REQUEST)).text
    assert (await submit(connected, page, REQUEST, changes)).status_code == 403
    assert await log_of(deployment) == []


@pytest.mark.parametrize("path", ["/console/docs", f"{REQUEST}?operation=getMessages"])
async def test_without_an_instance_the_page_leads_to_where_one_connects(
    operator: Any, path: str
) -> None:
    """Somebody new would read of errors where a step is missing."""
    answer = await operator.get(path)
    assert answer.status_code == 200
    assert "There is no instance to ask" in answer.text
    assert 'href="/console/connect"' in answer.text


async def test_a_connector_that_is_away_is_said_with_what_to_do(
    open_desk: Any, deployment: Any, environ: dict[str, str]
) -> None:
    """The page would fail, and the log be searched for what the connector said."""
    away = environ | {"OPEN_CONNECTORS_BASE_URL": f"http://127.0.0.1:9{BASE}"}
    elsewhere = Deployment(load_settings(None, away), deployment.redis_url)
    desk = await open_desk(deployment=elsewhere)
    async with desk.browser() as browser:
        await desk.sign_in(browser)
        page = (await browser.get(REQUEST)).text
        answer = await browser.get("/console/docs")
        sent = await submit(browser, page, REQUEST, {"path": "/ping?a=1", "do": "send"})
    assert (answer.status_code, sent.status_code) == (502, 502)
    assert "OPEN_CONNECTORS_BASE_URL" in answer.text
    assert 'href="/console/docs">Try again' in answer.text
    assert form_on(sent.text, REQUEST)["path"] == "/ping?a=1"
    assert "OPEN_CONNECTORS_BASE_URL" in sent.text
