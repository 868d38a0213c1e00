"""Says why a signature was refused: which nearby reading of the request would have matched.

Nearly every refusal of a genuine callback is one of a dozen misunderstandings between what Twilio
was given and what we believe it was given. Each is tried alone and then in pairs. Used by the
door's rate-limited log line and by `parley explain-signature`; lets nothing in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from service.core.twilio.forms import Pairs, parse
from service.core.twilio.signature import (
    DEFAULT_PORTS,
    DIGESTS,
    SigningKey,
    Verifier,
    read_settings,
    signed_text,
    split_port,
)
from service.errors import CallbackTooLarge


@dataclass(frozen=True, slots=True)
class Explanation:
    """What became of a signature.

    matched: True when the door would let it in.
    lines: sentences for people: the finding first, then what to do. No secrets, no parameters.
    """

    matched: bool
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Request:
    """One reading of what was signed: the URL in its parts, and the text behind it."""

    scheme: str
    host: str
    port: str
    path: str
    query: str
    signed: bytes

    def message(self) -> bytes:
        netloc = f"{self.host}:{self.port}" if self.port else self.host
        query = f"?{self.query}" if self.query else ""
        url = f"{self.scheme}://{netloc}{self.path}{query}"
        return url.encode("utf-8", "replace") + self.signed


@dataclass(frozen=True, slots=True)
class _Change:
    """One way to read the request otherwise.

    said: completes "It would match ...". advice: what to do about it.
    parts: the fields of `_Request` that differ.
    """

    said: str
    advice: str
    parts: dict[str, str | bytes]

    def apply(self, request: _Request) -> _Request:
        values = {name: getattr(request, name) for name in _Request.__slots__} | self.parts
        return _Request(**values)


REGISTER = "Make PUBLIC_URL and the URL registered with Twilio the same, letter for letter."
PROXY = "Something between Twilio and Parley rewrites the request; let it pass unchanged."
DROPPED = "Something between Twilio and Parley drops blank fields; let it pass the body unchanged."
PARSER = "Whatever signed it, or relays it, treats the form differently from Twilio."

OFTEN_BLANK = (
    *("FromCity", "FromState", "FromZip", "FromCountry"),
    *("ToCity", "ToState", "ToZip", "ToCountry"),
)
"""Parameters that Twilio sends blank when it does not know them."""


def explain(
    url: str,
    body: bytes,
    signature: str | bytes | None,
    tokens: Sequence[str],
    *,
    signed_with: str | bytes | None = None,
    shared_keys: Mapping[str, str] | None = None,
    query_readings: bool = True,
) -> Explanation:
    """Tell whether a signature matches and, if not, what would have matched.

    url: the address Twilio was given, with the query it was called with.
    body: raw; empty for a GET.
    signature: the header X-Twilio-Signature, None if there was none.
    tokens: auth tokens to try, the primary one first.
    signed_with: the header X-Twilio-Webhooks-Signature-Settings, None if there was none.
    shared_keys: secrets by the key's id.
    query_readings: try the query otherwise than as received; without, only leaving it out is tried.
    Raises ValueError for a URL that is none, or without a token.
    """
    address, _, query = url.partition("#")[0].partition("?")
    verifier = Verifier(address, tokens, shared_keys)
    header = signature.encode() if isinstance(signature, str) else signature or b""
    named = signed_with.encode() if isinstance(signed_with, str) else signed_with
    keys = [SigningKey(token) for token in tokens]
    if named is not None and (id_ := read_settings(named)[0]):
        algorithm = read_settings(named)[1]
        unknown = _unknown_key(id_, algorithm, shared_keys or {})
        if unknown:
            return Explanation(matched=False, lines=unknown)
        keys = [SigningKey((shared_keys or {})[id_], algorithm)]
    malformed = _malformed(header, shared=named is not None)
    if malformed:
        return Explanation(matched=False, lines=malformed)
    if body.lstrip()[:1] in {b"{", b"["}:
        return _explain_json(verifier, query.encode(), body, header, named)
    try:
        pairs = parse(body)
    except CallbackTooLarge as error:
        return Explanation(matched=False, lines=(f"The form has {error}.",))
    if verifier.verify(query.encode(), pairs, header, named):
        return Explanation(matched=True, lines=("The signature matches.",))
    changes = _changes(url, query, body, pairs, query_readings=query_readings)
    return _nearest(_as_given(verifier, query, pairs), changes, keys, header)


def _unknown_key(id_: str, algorithm: str, shared_keys: Mapping[str, str]) -> tuple[str, ...]:
    """Say why the shared key that a request names can't be tried; nothing if it can."""
    if algorithm not in DIGESTS:
        return (
            f"The request is signed by an algorithm this Parley does not know: {algorithm[:40]!r}.",
            f"Known are {', '.join(DIGESTS)}; upgrade Parley if Twilio added one.",
        )
    if id_ not in shared_keys:
        return (
            f"The request is signed with the shared key {id_[:80]!r}.",
            "TWILIO_SHARED_KEYS does not have it: add it there as <id>:<secret>.",
        )
    return ()


def _malformed(header: bytes, *, shared: bool) -> tuple[str, ...]:
    """Say what is wrong with a header that none of the keys to try can have made."""
    if not header:
        return (
            "There is no X-Twilio-Signature.",
            "The request is not from Twilio, or something in between drops the header.",
        )
    if re.fullmatch(rb"[A-Za-z0-9+/]{27}=", header):
        return ()
    if re.fullmatch(rb"[A-Za-z0-9+/]{43}=", header):
        if shared:
            return ()
        return (
            "The signature is an HMAC-SHA256: it was made with a shared key, not an auth token.",
            "X-Twilio-Webhooks-Signature-Settings, which names the key, was lost on its way.",
        )
    if re.fullmatch(rb"[A-Za-z0-9+/]{27}=", header.strip(b" \t\r\n\"'")):
        return ("The signature has blanks or quotes around it; give it bare.",)
    return ("The signature is malformed: 28 characters of base64 were expected.",)


def _explain_json(
    verifier: Verifier, query: bytes, body: bytes, header: bytes, signed_with: bytes | None
) -> Explanation:
    if verifier.verify_json(query, body, header, signed_with):
        return Explanation(matched=True, lines=("The signature matches, and so does bodySHA256.",))
    if not verifier.verify(query, (), header, signed_with):
        return Explanation(
            matched=False, lines=("The body is JSON, and the URL alone does not match either.",)
        )
    said = "differs from the body's digest" if b"bodySHA256=" in query else "is missing"
    return Explanation(
        matched=False, lines=(f"The URL matches, but bodySHA256 in its query {said}.", PROXY)
    )


def _as_given(verifier: Verifier, query: str, pairs: Pairs) -> _Request:
    parts = urlsplit(verifier.address.url)
    host, port = split_port(parts.netloc)
    return _Request(parts.scheme, host, port, parts.path, query, signed_text(pairs))


def _nearest(
    request: _Request,
    groups: Sequence[Sequence[_Change]],
    keys: Sequence[SigningKey],
    header: bytes,
) -> Explanation:
    tried = 0
    for changes in _combinations(groups):
        reading = request
        for change in changes:
            reading = change.apply(reading)
        tried += 1
        message = reading.message()
        for number, key in enumerate(keys, 1):
            if key.matches(message, header):
                token = f", signed with auth token {number} of {len(keys)}" if number > 1 else ""
                said = " and ".join(change.said for change in changes)
                advice = dict.fromkeys(change.advice for change in changes)
                return Explanation(matched=False, lines=(f"It would match {said}{token}.", *advice))
    return Explanation(
        matched=False,
        lines=(
            f"No nearby reading matches ({tried} tried).",
            "Either TWILIO_AUTH_TOKEN is another account's, or the URL registered is another one.",
            "Or the request is not from Twilio.",
        ),
    )


def _combinations(groups: Sequence[Sequence[_Change]]) -> Iterator[tuple[_Change, ...]]:
    """Every change alone, then every pair of two groups; more would explain anything."""
    for group in groups:
        for change in group:
            yield (change,)
    for first, second in combinations(groups, 2):
        for one in first:
            for other in second:
                yield one, other


def _changes(
    url: str, query: str, body: bytes, pairs: Pairs, *, query_readings: bool
) -> Sequence[Sequence[_Change]]:
    address = url.partition("#")[0].partition("?")[0]
    parts = urlsplit(address)
    return (
        list(_logins(parts.netloc)),
        list(_origins(parts.scheme, *split_port(parts.netloc.rpartition("@")[2]))),
        list(_paths(parts.path)),
        list(_queries(query, body))[: None if query_readings else 1],
        list(_forms(body, pairs)),
    )


def _logins(netloc: str) -> Iterator[_Change]:
    login, at, place = netloc.rpartition("@")
    if at:
        host = f"{login}@{split_port(place)[0]}"
        yield _Change("with the user and password of PUBLIC_URL", REGISTER, {"host": host})


def _origins(scheme: str, host: str, port: str) -> Iterator[_Change]:
    other = "http" if scheme == "https" else "https"
    yield _Change(f"with {other} for {scheme}", REGISTER, {"scheme": other})
    for wanted in (scheme, other):
        kept = "" if wanted == scheme else f"{other} for {scheme} and "
        for number in dict.fromkeys((*DEFAULT_PORTS.values(), "8080", "8443")):
            if number != port:
                yield _Change(
                    f"with {kept}port {number} {'for ' + port if port else 'added'}",
                    REGISTER,
                    {"scheme": wanted, "port": number},
                )
    if port:
        yield _Change(
            f"with {other} for {scheme} and without port {port}",
            REGISTER,
            {"scheme": other, "port": ""},
        )
    if host != host.lower():
        yield _Change("with the host in lower case", REGISTER, {"host": host.lower()})


def _paths(path: str) -> Iterator[_Change]:
    if path.endswith("/"):
        bare = path.rstrip("/")
        yield _Change("without the trailing slash of the path", REGISTER, {"path": bare})
    else:
        yield _Change("with a trailing slash on the path", REGISTER, {"path": f"{path}/"})
    segments = path.strip("/").split("/")
    for cut in range(1, len(segments)):
        shorter = "/" + "/".join(segments[cut:])
        yield _Change(f"with the path {shorter} for {path}", REGISTER, {"path": shorter})
        shorter = "/" + "/".join(segments[:cut])
        yield _Change(f"with the path {shorter} for {path}", REGISTER, {"path": shorter})
    if segments != [""]:
        yield _Change("without the path", REGISTER, {"path": ""})
        yield _Change("with / for the path", REGISTER, {"path": "/"})
        yield _Change("with the path twice", REGISTER, {"path": path * 2})


def _queries(query: str, body: bytes) -> Iterator[_Change]:
    if not query:
        return
    yield _Change("without the query", PROXY, {"query": ""})
    in_order = "&".join(sorted(query.split("&")))
    if in_order != query:
        yield _Change("with the query's fields sorted", PROXY, {"query": in_order})
    for said, other in (
        # Some proxies escape it; Twilio signs it as it is.
        ("with ' for %27 in the query", query.replace("%27", "'")),
        ("with %27 for ' in the query", query.replace("'", "%27")),
        ("with the query decoded", unquote(query)),
        ("with the query encoded", quote(query, safe="=&%+")),
        ("with %20 for + in the query", query.replace("+", "%20")),
        ("with + for %20 in the query", query.replace("%20", "+")),
    ):
        if other != query:
            yield _Change(said, PROXY, {"query": other})
    if not body:
        moved = signed_text(parse_qsl(query, keep_blank_values=True))
        yield _Change(
            "as a POST with the query's fields for its form",
            "Register POST with Twilio, and let no proxy turn it into a GET.",
            {"query": "", "signed": moved},
        )


def _forms(body: bytes, pairs: Pairs) -> Iterator[_Change]:
    if not pairs:
        return
    text = body.decode("latin-1")
    yield _Change(
        "as a GET, without the form",
        "A GET is signed by its URL alone; let no proxy turn it into a POST.",
        {"signed": b""},
    )
    readings: Iterable[tuple[str, Pairs]] = (
        ("with blank fields dropped", [(n, v) for n, v in pairs if v]),
        ("with values trimmed", [(n, v.strip()) for n, v in pairs]),
        ("with blank fields dropped and values trimmed", _stripped(pairs)),
        ("with the form read as Latin-1", parse_qsl(text, True, encoding="latin-1")),
        ("with the form not decoded", [_split(field) for field in text.split("&")]),
        ("with + left as it is in the form", parse(body.replace(b"+", b"%2B"))),
        ("with the last value of each repeated name", list(dict(pairs).items())),
    )
    found = signed_text(pairs)
    names = {name for name, _ in pairs}
    for absent in (OFTEN_BLANK, OFTEN_BLANK[:4], OFTEN_BLANK[4:], ("Body",)):
        lost = [(name, "") for name in absent if name not in names]
        if lost:
            signed = signed_text([*pairs, *lost])
            said = f"with the blank fields {', '.join(name for name, _ in lost)} still there"
            yield _Change(said, DROPPED, {"signed": signed})
    for said, reading in readings:
        signed = signed_text(reading)
        if signed != found:
            yield _Change(said, PARSER, {"signed": signed})
    as_received = "".join(name + value for name, value in pairs).encode()
    if as_received != found:
        yield _Change("with the fields unsorted", PARSER, {"signed": as_received})


def _stripped(pairs: Pairs) -> Pairs:
    return [(name, value.strip()) for name, value in pairs if value.strip()]


def _split(field: str) -> tuple[str, str]:
    name, _, value = field.partition("=")
    return name, value
