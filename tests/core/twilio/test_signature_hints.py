from __future__ import annotations

from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twilio.request_validator import RequestValidator

from service.core.twilio.signature import Verifier
from service.core.twilio.signature_hints import explain

TOKEN = "12345"
URL = "https://sms.example.com/callbacks/twilio"
FIELDS = {"From": "+14158675309", "Body": " Grüße ", "FromCity": "", "a": "1"}
BODY = urlencode(FIELDS).encode()


def sign(url: str, fields: dict[str, str] | None = None, token: str = TOKEN) -> str:
    """Sign with Twilio's library."""
    signature: str = RequestValidator(token).compute_signature(url, fields or {})
    return signature


def test_a_genuine_callback_is_said_to_match() -> None:
    """Somebody who looks for a mistake should hear that there is none."""
    found = explain(URL, BODY, sign(URL, FIELDS), [TOKEN])
    assert found.matched
    assert found.lines == ("The signature matches.",)


@pytest.mark.parametrize(
    ("signed_url", "hint"),
    [
        ("http://sms.example.com/callbacks/twilio", "http for https"),
        ("https://sms.example.com:8443/callbacks/twilio", "port 8443 added"),
        ("http://sms.example.com:8080/callbacks/twilio", "http for https and port 8080 added"),
        ("https://sms.example.com/callbacks/twilio/", "trailing slash"),
        ("https://sms.example.com/twilio", "the path /twilio for /callbacks/twilio"),
        ("https://sms.example.com/callbacks", "the path /callbacks for /callbacks/twilio"),
        ("https://sms.example.com", "without the path"),
        ("https://sms.example.com/", "with / for the path"),
        ("https://sms.example.com/callbacks/twilio/callbacks/twilio", "the path twice"),
        ("http://sms.example.com/callbacks/twilio/", "http for https and with a trailing slash"),
    ],
)
def test_a_misread_url_is_named(signed_url: str, hint: str) -> None:
    """The commonest mistake of all; without the hint people guess for hours."""
    found = explain(URL, BODY, sign(signed_url, FIELDS), [TOKEN])
    assert not found.matched
    assert hint in found.lines[0]
    assert "PUBLIC_URL" in found.lines[1]


@pytest.mark.parametrize(
    ("url", "signed_url", "hint"),
    [
        (f"{URL}/", URL, "without the trailing slash"),
        (f"{URL}?b=2&a=1", URL, "without the query"),
        (f"{URL}?a=O%27Neill%20b", f"{URL}?a=O'Neill%20b", "with ' for %27 in the query"),
        (f"{URL}?a=O'Neill", f"{URL}?a=O%27Neill", "with %27 for ' in the query"),
        (f"{URL}?b=2&a=1", f"{URL}?a=1&b=2", "query's fields sorted"),
        (f"{URL}?a=x%20y", f"{URL}?a=x y", "query decoded"),
        (f"{URL}?a=x y", f"{URL}?a=x%20y", "query encoded"),
        (f"{URL}?a=x+y", f"{URL}?a=x%20y", "%20 for +"),
        (f"{URL}?a=x%20y", f"{URL}?a=x+y", "+ for %20"),
        ("https://h.example:8443/cb", "http://h.example/cb", "without port 8443"),
        ("https://h.example:8443/cb", "https://h.example:443/cb", "port 443 for 8443"),
        ("https://H.Example/cb", "https://h.example/cb", "lower case"),
    ],
)
def test_what_a_proxy_changed_is_named(url: str, signed_url: str, hint: str) -> None:
    """A proxy that rewrites requests breaks signatures and leaves no other trace."""
    found = explain(url, BODY, sign(signed_url, FIELDS), [TOKEN])
    assert not found.matched
    assert hint in found.lines[0]


@pytest.mark.parametrize(
    ("body", "signed", "hint"),
    [
        pytest.param(
            BODY, {n: v for n, v in FIELDS.items() if v}, "blank fields dropped", id="blank"
        ),
        pytest.param(
            BODY, {n: v.strip() for n, v in FIELDS.items()}, "values trimmed", id="trimmed"
        ),
        pytest.param(
            BODY, {n: v.strip() for n, v in FIELDS.items() if v}, "dropped and values", id="both"
        ),
        pytest.param(b"a=gr%FC%DFe", {"a": "grüße"}, "Latin-1", id="Latin-1"),
        pytest.param(b"a=%2B1", {"a": "%2B1"}, "not decoded", id="not decoded"),
        pytest.param(b"a=1+2&b=%C3%A9", {"a": "1+2", "b": "é"}, "+ left as it is", id="plus"),
        pytest.param(b"a=1&a=2", {"a": "2"}, "last value", id="repeats"),
        pytest.param(b"b=1&a=2", {"b1a2": ""}, "unsorted", id="unsorted"),
        pytest.param(BODY, {}, "as a GET", id="GET"),
    ],
)
def test_a_misread_form_is_named(body: bytes, signed: dict[str, str], hint: str) -> None:
    """A relay or a test tool that signs otherwise than Twilio is told what it does."""
    found = explain(URL, body, sign(URL, signed), [TOKEN])
    assert not found.matched
    assert hint in found.lines[0]


def test_a_post_turned_into_a_get_is_named() -> None:
    """Some proxies follow a redirect with a GET; the form then is in the query."""
    found = explain(f"{URL}?{BODY.decode()}", b"", sign(URL, FIELDS), [TOKEN])
    assert not found.matched
    assert "as a POST" in found.lines[0]


def test_the_other_token_is_accepted_and_its_mistakes_are_named_with_it() -> None:
    """While rotating, the token that signed is half of the answer."""
    assert explain(URL, BODY, sign(URL, FIELDS, "new"), [TOKEN, "new"]).matched
    found = explain(URL, BODY, sign(f"{URL}/", FIELDS, "new"), [TOKEN, "new"])
    assert not found.matched
    assert "trailing slash" in found.lines[0]
    assert "auth token 2 of 2" in found.lines[0]


def test_an_unknown_token_is_said_to_be_likely() -> None:
    """When nothing near matches, the token is the next thing to look at."""
    found = explain(URL, BODY, sign(URL, FIELDS, "unknown"), [TOKEN])
    assert not found.matched
    assert "No nearby reading" in found.lines[0]
    assert "TWILIO_AUTH_TOKEN" in found.lines[1]


@pytest.mark.parametrize(
    ("signature", "hint"),
    [
        (None, "no X-Twilio-Signature"),
        ("", "no X-Twilio-Signature"),
        ("abc", "malformed"),
        ("ключ", "malformed"),
        (b"\xff" * 28, "malformed"),
        (f'"{sign(URL, FIELDS)}"', "quotes"),
        ("A" * 43 + "=", "HMAC-SHA256"),
    ],
)
def test_a_header_that_is_no_signature_is_described(
    signature: str | bytes | None, hint: str
) -> None:
    """A dropped or quoted header has nothing to do with URLs; nobody should search there."""
    found = explain(URL, BODY, signature, [TOKEN])
    assert not found.matched
    assert hint in found.lines[0]


def test_a_json_body_is_explained_by_its_digest() -> None:
    """A relay that rewrites JSON breaks the digest, not the signature."""
    digest = "1b16b1df538ba12dc3f97edbb85caa7050d46c148134290feba80f8236c83db9"
    url = f"{URL}?bodySHA256={digest}"
    assert "is missing" in explain(URL, b"{}", sign(URL), [TOKEN]).lines[0]
    assert "differs" in explain(url, b"{}", sign(url), [TOKEN]).lines[0]
    assert "URL alone" in explain(url, b"{}", sign(URL + "/"), [TOKEN]).lines[0]


def test_too_many_fields_are_said_to_be() -> None:
    """The door refuses such a form before it looks at the signature."""
    found = explain(URL, b"&" * 2000, sign(URL), [TOKEN])
    assert not found.matched
    assert "more than 200" in found.lines[0]


secretish = st.text("0123456789abcdef", min_size=32, max_size=32)


@given(st.binary(max_size=200), st.binary(max_size=30), st.text(max_size=30), secretish)
def test_it_agrees_with_the_door_and_tells_no_secrets(
    body: bytes, signature: bytes, query: str, token: str
) -> None:
    """The line goes to logs: a token or a person's text in it would leak."""
    found = explain(f"{URL}?{query}", body, signature, [token])
    assert not found.matched
    assert found.lines
    assert all(token not in line for line in found.lines)


@given(st.dictionaries(st.text("ab"), st.text("1 "), max_size=4), st.sampled_from(["", "/", "x"]))
def test_matched_means_the_door_lets_it_in(fields: dict[str, str], tail: str) -> None:
    """An explanation that contradicts the door sends people astray."""
    body = urlencode(fields).encode()
    signature = sign(URL + tail, fields)
    pairs = parse_qsl(body.decode(), keep_blank_values=True)
    let_in = Verifier(URL, [TOKEN]).verify(b"", pairs, signature.encode())
    assert explain(URL, body, signature, [TOKEN]).matched is let_in


def test_a_password_in_the_url_is_tried_and_in_no_hint() -> None:
    """Hints are logged: they would tell who is let in at the proxy."""
    private = URL.replace("://", "://user:heron@")
    for signed in (private, URL):
        assert explain(private, BODY, sign(signed, FIELDS), [TOKEN]).matched
        found = explain(private, BODY, sign(f"{signed}/", FIELDS), [TOKEN])
        assert "with a trailing slash" in found.lines[0]
        assert not found.matched
        assert "heron" not in " ".join(found.lines)
