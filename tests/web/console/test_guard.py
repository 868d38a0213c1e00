"""Whom the console answers at all, and what every answer carries."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlsplit

import pytest

pytestmark = pytest.mark.anyio

HOSTS = ("parley.ops.example.com", "10.0.0.7", "Desk.")


async def ask(desk: Any, *headers: str, start: str = "GET /console/sign-in") -> str:
    """Send a request with exactly these headers; returns the whole answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(desk.url).port)
    head = [f"{start} HTTP/1.1", *headers, "Connection: close", "", ""]
    writer.write("\r\n".join(head).encode("latin-1"))
    answer = (await reader.read()).decode("utf-8")
    writer.close()
    await writer.wait_closed()
    return answer


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1:8081", "localhost", "localhost:8081", "parley.localhost", "[::1]:8081"),
        *("127.1.2.3", "PARLEY.ops.example.com:443", "10.0.0.7:8081", "desk"),
    ],
)
async def test_this_machine_and_the_names_of_the_settings_are_answered(
    open_desk: Any, host: str
) -> None:
    """The operator could not open a page."""
    desk = await open_desk(hosts=HOSTS)
    assert (await ask(desk, f"Host: {host}")).startswith("HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param(("Host: evil.example",), id="rebinding"),
        pytest.param(("Host: 10.0.0.8",), id="another machine's address"),
        pytest.param(("Host: 192.168.0.1:8081",), id="with a port"),
        pytest.param(("Host: [fd00::7]",), id="IPv6"),
        pytest.param(("Host: 127.0.0.1.evil.example",), id="a name like an address"),
        pytest.param(("Host: 127.0.0.1@evil.example",), id="a login"),
        pytest.param(("Host: evil.example#localhost",), id="a fragment"),
        pytest.param(("Host: localhost.evil.example",), id="a domain of another"),
        pytest.param(("Host: localhost:99999",), id="no port"),
        pytest.param(("Host: ",), id="nothing"),
        pytest.param(("Host: localhost", "Host: evil.example"), id="two"),
        pytest.param((), id="none"),
    ],
)
@pytest.mark.parametrize("path", ["/console", "/console/sign-in?token=abc", "/console/x"])
async def test_any_other_name_is_told_nothing(open_desk: Any, headers: Any, path: str) -> None:
    """A page that has come to lead here by its own name would read and use the console."""
    desk = await open_desk(hosts=HOSTS)
    answer = await ask(desk, *headers, start=f"GET {path}")
    assert answer.startswith(("HTTP/1.1 421 ", "HTTP/1.1 400 "))
    assert "evil" not in answer
    assert "set-cookie" not in answer
    assert "\nlocation:" not in answer


@pytest.mark.parametrize(
    ("start", "headers"),
    [
        pytest.param("GET /console", ("Sec-Fetch-Site: cross-site",), id="a script"),
        pytest.param(
            "GET /console",
            ("Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: iframe"),
            id="a frame",
        ),
        pytest.param(
            "GET /console",
            ("Sec-Fetch-Site: same-site", "Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: image"),
            id="another port's image",
        ),
        pytest.param(
            "POST /console/sign-in",
            ("Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"),
            id="a form",
        ),
        pytest.param("POST /console/sign-out", ("Origin: http://evil.example",), id="an origin"),
        pytest.param("POST /console/sign-out", ("Origin: https://localhost",), id="another scheme"),
        pytest.param("GET /console", ("Origin: http://localhost:3000",), id="another port"),
    ],
)
async def test_another_site_s_page_is_refused(desk: Any, start: str, headers: Any) -> None:
    """It could show the console in a frame, or send forms in the operator's name."""
    answer = await ask(desk, "Host: localhost", "Content-Length: 0", *headers, start=start)
    assert answer.startswith("HTTP/1.1 403 ")
    assert "not for other sites" in answer


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param(
            ("Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"),
            id="a link in a mail",
        ),
        pytest.param(("Sec-Fetch-Site: none", "Sec-Fetch-Mode: navigate"), id="typed in"),
        pytest.param(("Origin: http://localhost",), id="its own origin"),
        pytest.param(("Sec-Fetch-Site: same-origin", "Origin: null"), id="without a referrer"),
    ],
)
async def test_a_link_and_our_own_pages_are_let_through(desk: Any, headers: Any) -> None:
    """An address that a colleague sent could not be opened."""
    assert (await ask(desk, "Host: localhost", *headers)).startswith("HTTP/1.1 200 ")


async def test_behind_tls_the_origin_is_https(open_desk: Any) -> None:
    """Every form would be refused there, or one of the same host without TLS be taken."""
    desk = await open_desk(tls=True)
    for origin, status in (("https://localhost", 200), ("http://localhost", 403)):
        answer = await ask(desk, "Host: localhost", f"Origin: {origin}")
        assert answer.startswith(f"HTTP/1.1 {status} ")


@pytest.mark.parametrize(
    "path",
    [
        *("/console", "/console/sessions", "/console/audit", "/console/keyboard", "/console/none"),
        *("/console/sign-in?token=abc", "/console/audit?before=x", "/console/static/none.css"),
    ],
)
async def test_every_answer_is_kept_out_of_frames_caches_and_referrers(
    operator: Any, path: str
) -> None:
    """A page could be clicked on unseen, kept by a browser, or tell its address to another site."""
    answer = await operator.get(path)
    headers = answer.headers
    policy = dict(
        each.strip().partition(" ")[::2] for each in headers["content-security-policy"].split(";")
    )
    nonce = policy.pop("script-src")
    assert policy == {
        "default-src": "'none'",
        "style-src": "'self'",
        "img-src": "'self'",
        "connect-src": "'self'",
        "form-action": "'self'",
        "frame-ancestors": "'none'",
        "base-uri": "'none'",
    }
    assert nonce.startswith("'nonce-")
    scripts = answer.text.count("<script")
    assert scripts == answer.text.count(f'<script nonce="{nonce[7:-1]}" src="/console/static/')
    assert not any(word in answer.text for word in (" style=", "<style", " onclick", "javascript:"))
    assert headers["x-frame-options"] == "DENY"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"
    again = await operator.get(path)
    assert again.headers["content-security-policy"] != headers["content-security-policy"]


async def test_the_probes_stay_as_they_are(desk: Any, browser: Any) -> None:
    """An orchestrator would be asked to sign in, or be refused for asking by its own address."""
    for path in ("/readyz", "/healthz", "/metrics", "/counters"):
        answer = await browser.get(path)
        assert answer.status_code == 200
        assert "content-security-policy" not in answer.headers
    assert (await ask(desk, "Host: 10.42.0.7", start="GET /readyz")).startswith("HTTP/1.1 200 ")
    assert (await ask(desk, "Host: localhost", start="GET /consolex")).startswith("HTTP/1.1 404 ")
