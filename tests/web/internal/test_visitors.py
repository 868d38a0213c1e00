"""Web pages of strangers at the internal listener: told nothing, while probes are answered."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import pytest

from service.web.internal.app import Check, internal_app

pytestmark = pytest.mark.anyio

SECRET_OF_THE_HOUSE = "what-is-not-ready-and-why"
HOSTS = ("parley-internal", "Parley.SMS.svc.")


async def readiness() -> Mapping[str, Check]:
    """Tell something that is nobody else's business."""
    return {"redis": Check(ok=True, detail=SECRET_OF_THE_HOUSE)}


async def ask(serve: Any, *headers: str, path: str = "/readyz", version: str = "1.1") -> str:
    """Send a request with exactly these headers; returns the whole answer."""
    async with serve(internal_app(readiness, hosts=HOSTS)) as address:
        reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(address).port)
        head = [f"GET {path} HTTP/{version}", *headers, "Connection: close", "", ""]
        writer.write("\r\n".join(head).encode("latin-1"))
        answer = (await reader.read()).decode("latin-1")
        writer.close()
        await writer.wait_closed()
    assert "\nx-content-type-options: nosniff\r\n" in answer
    assert "access-control" not in answer.lower()
    return answer


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param(("Host: 127.0.0.1:8081",), id="loopback"),
        pytest.param(("Host: 10.42.0.7:8081",), id="a probe at the pod's address"),
        pytest.param(("Host: [::1]:8081",), id="IPv6"),
        pytest.param(("Host: [fd00::7]",), id="IPv6 without a port"),
        pytest.param(("Host: localhost:8081",), id="localhost"),
        pytest.param(("Host: parley.localhost",), id="a name of this machine's"),
        pytest.param(("Host: PARLEY-internal:80",), id="a name of the settings"),
        pytest.param(("Host: parley.sms.svc",), id="another"),
        pytest.param(("Host: 10.42.0.7", "Origin: http://10.42.0.7"), id="its own page"),
        pytest.param(("Host: localhost", "Sec-Fetch-Site: none"), id="an address typed in"),
        pytest.param(("Host: localhost", "Sec-Fetch-Site: same-origin"), id="the same origin"),
    ],
)
async def test_probes_and_people_of_the_house_are_answered(serve: Any, headers: Any) -> None:
    """Orchestrators would restart a service that is well."""
    answer = await ask(serve, *headers)
    assert answer.startswith("HTTP/1.1 200 ")
    assert SECRET_OF_THE_HOUSE in answer


async def test_a_probe_of_http_1_0_is_answered(serve: Any) -> None:
    """Load balancers of old send no Host at all, and browsers always do."""
    assert " 200 " in await ask(serve, version="1.0")


@pytest.mark.parametrize("path", ["/readyz", "/counters", "/healthz", "/nothing"])
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param(("Host: evil.example",), 421, id="rebinding"),
        pytest.param(("Host: evil.example:8081",), 421, id="rebinding with a port"),
        pytest.param(("Host: 127.0.0.1.evil.example",), 421, id="a name like an address"),
        pytest.param(("Host: 127.0.0.1@evil.example",), 421, id="a login"),
        pytest.param(("Host: evil.example#localhost",), 421, id="a fragment"),
        pytest.param(("Host: evil.example/localhost",), 421, id="a path"),
        pytest.param(("Host: localhost.evil.example",), 421, id="a domain of another"),
        pytest.param(("Host: xparley-internal",), 421, id="nearly a name"),
        pytest.param(("Host: 2130706433.evil.example",), 421, id="a number"),
        pytest.param(("Host: localhost:99999",), 421, id="no port"),
        pytest.param(("Host: [localhost",), 421, id="no address"),
        pytest.param(("Host: ",), 421, id="nothing"),
        pytest.param(("Host: localhost", "Host: evil.example"), 421, id="two"),
        pytest.param(("Host: localhost", "Origin: http://evil.example"), 403, id="a page's script"),
        pytest.param(("Host: localhost", "Origin: null"), 403, id="a hidden page's script"),
        pytest.param(("Host: localhost", "Origin: http://localhost:3000"), 403, id="another port"),
        pytest.param(("Host: localhost", "Sec-Fetch-Site: cross-site"), 403, id="a page's image"),
        pytest.param(("Host: localhost", "Sec-Fetch-Site: Cross-Site "), 403, id="capitals"),
    ],
)
async def test_a_page_of_another_site_is_told_nothing(
    serve: Any, headers: Any, status: int, path: str
) -> None:
    """Any page that somebody of the house looks at could read what the service is doing."""
    answer = await ask(serve, *headers, path=path)
    assert answer.startswith(f"HTTP/1.1 {status} ")
    assert SECRET_OF_THE_HOUSE not in answer
    assert "evil" not in answer
