"""Requests by hand: where they go, and how they are written for others."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core.masking import MASK
from service.core.open_connectors.hub_request import (
    HUB,
    as_curl,
    as_python,
    read_body,
    read_request,
    shown_headers,
)
from service.errors import UsageError

BASE_URL = "https://api.example.com/elements/api-v2"


@pytest.mark.parametrize(
    ("path", "query", "whole"),
    [
        ("/messages", (), "/hubs/messaging/messages"),
        ("/hubs/messaging/messages", (), "/hubs/messaging/messages"),
        ("/messages", ("pageSize=5", "page=2"), "/hubs/messaging/messages?pageSize=5&page=2"),
        ("/messages?page=2", ("a=",), "/hubs/messaging/messages?page=2&a="),
        (
            "/messages",
            ("where=DateSent='2026-01-31' and to='+1'",),
            "/hubs/messaging/messages?where=DateSent%3D%272026-01-31%27%20and%20to%3D%27%2B1%27",
        ),
        ("/messages/SM1/media", (), "/hubs/messaging/messages/SM1/media"),
        ("/messages/größe", (), "/hubs/messaging/messages/gr%C3%B6%C3%9Fe"),
        ("/messages/", (), f"{HUB}/messages/"),
        ("/messages/a%2Bb", (), "/hubs/messaging/messages/a%2Bb"),
    ],
)
def test_a_path_is_below_the_instances_hub(path: str, query: tuple[str, ...], whole: str) -> None:
    """A path as the documentation writes it would have to be completed by hand."""
    assert read_request("get", path, query).path == whole


@pytest.mark.parametrize(
    "path",
    [
        "https://evil.example/messages",
        "//evil.example/messages",
        "/\\evil.example/messages",
        "\\\\evil.example",
        "messages",
        "",
        "/",
        "@evil.example/messages",
        "/messages/../../instances",
        "/..",
        "/./messages",
        "/messages/%2e%2e/%2e%2e/instances",
        "/messages/%252e%252e/x",
        "/messages/..%2f..%2finstances",
        "/messages/..;/..;/instances",
        "/messages//x",
        "/messages/%2f%2fevil.example",
        "/messages/%5cx",
        "/messages#x",
        "/messages%23x",
        "/messages%3Fx",
        "/messages\r\nHost: evil.example",
        "/messages%0d%0aHost:x",
        "/messages x",
        "/messages%zz",
        "/messages\udcff",
        "/hubs/messaging",
        "/hubs/../instances/x",
        "/instances",
        "/Instances/1",
        "/instances;x=1",
        "/%69nstances",
        "/formulas/instances",
        "/organizations/objects/definitions",
        "/" + "x" * 3000,
    ],
)
def test_a_path_leads_nowhere_else(path: str) -> None:
    """The instance's token would be sent to whoever's address somebody pasted."""
    with pytest.raises(UsageError, match="PATH"):
        read_request("GET", path)


@given(st.text(max_size=40) | st.text(alphabet="/.%25eEfF;\\?#@:a", max_size=30))
def test_whatever_is_typed_stays_below_the_hub(path: str) -> None:
    """One more trick with a path, and the token goes elsewhere."""
    try:
        found = read_request("GET", f"/{path}").path
    except UsageError:
        return
    whole = urlsplit(BASE_URL + found)
    assert (whole.scheme, whole.netloc) == ("https", "api.example.com")
    assert whole.path.startswith("/elements/api-v2/hubs/")
    assert not re.search(r"(^|/)\.\.?([/;]|$)", unquote(unquote(whole.path)))
    assert re.fullmatch(r"[!-~]+", found)


@pytest.mark.parametrize(
    ("method", "query", "data", "names"),
    [
        ("FETCH", (), None, "METHOD"),
        ("GET", (), "{}", "--data"),
        ("HEAD", (), "{}", "--data"),
        ("POST", (), "{", "--data"),
        ("POST", (), "NaN", "--data"),
        ("POST", (), "[1e999]", "--data"),
        ("POST", (), "[" * 100_000, "--data"),
        ("POST", (), '"' + "x" * 1_100_000 + '"', "--data"),
        ("GET", ("pageSize",), None, "--query"),
        ("GET", ("=5",), None, "--query"),
        ("GET", ("a=\udcff",), None, "--query"),
    ],
)
def test_what_makes_no_request_is_refused_by_name(
    method: str, query: tuple[str, ...], data: str | None, names: str
) -> None:
    """The platform's own error says nothing of the command's words."""
    with pytest.raises(UsageError, match=names):
        read_request(method, "/messages", query, data)


def test_only_reads_are_sent_without_a_question() -> None:
    """A text would leave for a slip of the fingers."""
    writes = {m: read_request(m, "/x").writes for m in ("get", "head", "post", "put", "patch")}

    assert [method for method, does in writes.items() if not does] == ["get", "head"]
    assert read_request("DELETE", "/x").writes


def test_headers_named_like_secrets_are_masked() -> None:
    """A screenshot would give the session away."""
    shown = shown_headers(
        {
            "set-cookie": "a",
            "x-api-key": "b",
            "authorization": "c",
            "elements-next-page-token": "d",
            "elements-request-id": "e",
        }
    )

    assert [value for value in shown.values() if value != MASK] == ["d", "e"]


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b"", None),
        (b'{"a": 1}', {"a": 1}),
        (b"<p>", "<p>"),
        (b"\xff", "\ufffd"),
        (b"[" * 99999,) * 2,
    ],
    ids=["empty", "JSON", "page", "no UTF-8", "deep"],
)
def test_a_body_is_json_or_text(body: bytes, value: dict[str, int] | str | bytes | None) -> None:
    """An error page would be a traceback."""
    read = read_body(body)
    assert read == (value.decode() if isinstance(value, bytes) else value)


def test_for_others_variables_stand_for_secrets() -> None:
    """What is pasted into a ticket would hold the token; what lacks it can't be run."""
    request = read_request("POST", "/messages", (), '{"Body": "it\'s $HOME"}')
    for written in (as_curl(request, BASE_URL), as_python(request, BASE_URL)):
        for name in ("OPEN_CONNECTORS_USER_SECRET", "INSTANCE_TOKEN"):
            assert name in written
        assert f"{BASE_URL}/hubs/messaging/messages" in written
    compile(as_python(request, BASE_URL), "program", "exec")
    assert as_curl(read_request("HEAD", "/ping"), BASE_URL).startswith("curl --head ")
