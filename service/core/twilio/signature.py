"""Decides whether a callback was signed with one of our keys: an auth token, or a shared key.

Twilio signs the URL it was given and, for a form POST, every parameter. The URL here is the one we
registered, never one rebuilt from a request's headers, followed by the query exactly as received.

One HMAC over the likeliest reading lets a genuine callback in, at a hundredth of the cost of
Twilio's own library. What that does not match is read with the other port and the other token
(`Verifier.matches`). Nothing is refused before `twilio.request_validator.RequestValidator` has
refused it too (`Verifier.look_again`), unless so much is being refused that the caller can't afford
it: the library costs ten times as much, and knows no reading that Twilio is known to sign and we
are not. Its known slips (userinfo, IPv6 with a port, a trailing "?", characters `urlparse` removes)
are kept away from it or made good here. `signature_hints` explains a refusal.

A shared key is named by a second header, together with its algorithm: that one key is tried then,
and no other.

Source: Twilio, "Validating signatures from Twilio"; for shared keys, the source of twilio 9.13.
"""

from __future__ import annotations

import hashlib
import hmac
from binascii import b2a_base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from urllib.parse import parse_qs, urlparse, urlsplit

from twilio.request_validator import RequestValidator

from service.core.masking import mask_login
from service.core.twilio.forms import Pairs

DEFAULT_PORTS = {"https": "443", "http": "80"}

AUTH_TOKEN_LENGTHS = frozenset({28})
SHARED_KEY_LENGTHS = frozenset({28, 44})
"""Characters of a SHA-1 and of a SHA-256 in base64: of X-Twilio-Signature, by what signs."""

DIGESTS = {"HMAC_SHA1": "sha1", "HMAC_SHA256": "sha256"}
"""Twilio's names for the algorithms, and hashlib's."""


@dataclass(frozen=True, slots=True)
class CallbackAddress:
    """The URL callbacks are registered with, in the ways Twilio may have written it.

    url: as configured, without userinfo, query and fragment (a query is taken from each request as
        received; a fragment is no part of what is signed).
    twin: the same with the port left out, or with the scheme's own port where there was none.
    path: of both, as written.
    userinfo: who Twilio logs in as, and how: "user:password@", "" without. A secret.
    """

    url: str
    twin: str
    path: str
    userinfo: str = field(default="", repr=False)

    @classmethod
    def parse(cls, url: str) -> CallbackAddress:
        """Read an absolute http or https URL.

        Raises ValueError for anything else.
        """
        parts = urlsplit(url)
        if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
            shown = repr(mask_login(url))
            raise ValueError(f"a callback URL begins with https:// and a host name, not {shown}")
        login, at, netloc = parts.netloc.rpartition("@")
        host, port = split_port(netloc)
        bare = f"{parts.scheme}://{host}{parts.path}"
        ported = f"{parts.scheme}://{host}:{port or DEFAULT_PORTS[parts.scheme]}{parts.path}"
        url, twin = (ported, bare) if port else (bare, ported)
        return cls(url, twin, parts.path, login + at)

    def with_userinfo(self) -> tuple[str, str]:
        """Return both with the userinfo, if there is one: secrets then.

        Twilio's libraries differ on whether it is signed.
        """
        begin = f"://{self.userinfo}"
        return self.url.replace("://", begin, 1), self.twin.replace("://", begin, 1)


def split_port(netloc: str) -> tuple[str, str]:
    """Split "host:port" into both, "" where there is no port.

    netloc: without userinfo. An IPv6 address keeps its brackets.
    """
    host, colon, port = netloc.rpartition(":")
    if not colon or port.endswith("]"):
        return netloc, ""
    return host, port


class Verifier:
    """Verifies callbacks for one URL.

    callback_url: the whole URL registered with Twilio. Userinfo may be signed or left out; a
        fragment is ignored.
    auth_tokens: the primary one first; a second while tokens are being rotated.
    shared_keys: secrets by the key's id.
    Raises ValueError for a URL that is none, or without a token.

    address, auth_tokens, shared_keys: as given, for explaining a refusal.
    """

    def __init__(
        self,
        callback_url: str,
        auth_tokens: Sequence[str],
        shared_keys: Mapping[str, str] | None = None,
    ) -> None:
        if not auth_tokens or not all(auth_tokens):
            raise ValueError("at least one auth token is needed, and none may be empty")
        self.address = CallbackAddress.parse(callback_url)
        self.auth_tokens = tuple(auth_tokens)
        self._url = self.address.url.encode()
        self._twin = self.address.twin.encode()
        private = self.address.with_userinfo() if self.address.userinfo else ()
        self._private = tuple(each.encode() for each in private)
        self._keys = tuple(SigningKey(token) for token in auth_tokens)
        self.shared_keys = dict(shared_keys or {})
        self._shared = {
            (id_, algorithm): SigningKey(secret, algorithm)
            for id_, secret in self.shared_keys.items()
            for algorithm in DIGESTS
        }

    def verify(
        self,
        query: bytes,
        params: Pairs,
        signature: bytes | None,
        signed_with: bytes | None = None,
    ) -> bool:
        """Tell whether the signature is one of ours for this URL, query and form.

        query: after the "?", as received: not sorted, not decoded.
        params: the form of a POST, every parameter, unknown and empty ones too; empty for a GET,
            which carries them in the query.
        signature: value of the header X-Twilio-Signature; None or junk is False, never an error.
        signed_with: value of X-Twilio-Webhooks-Signature-Settings, None without one.
        """
        given = query, params, signature, signed_with
        return self.matches(*given) or self.look_again(*given)

    def could_match(self, signature: bytes | None, signed_with: bytes | None = None) -> bool:
        """Tell whether a key of ours makes signatures of this length at all."""
        return signature is not None and len(signature) in (
            AUTH_TOKEN_LENGTHS if signed_with is None else SHARED_KEY_LENGTHS
        )

    def matches(
        self,
        query: bytes,
        params: Pairs,
        signature: bytes | None,
        signed_with: bytes | None = None,
    ) -> bool:
        """Do what `verify` does by our own comparison alone, in the likely readings."""
        if signature is None or not self.could_match(signature, signed_with):
            return False
        keys = self._keys if signed_with is None else self._named(signed_with)
        tail = b"?" + query if query else b""
        signed = tail + signed_text(params) if tail else signed_text(params)
        for key in keys:
            if key.matches(self._url + signed, signature):
                return True
        others = (self._twin, *self._private)
        return any(key.matches(each + signed, signature) for key in keys for each in others)

    def look_again(
        self,
        query: bytes,
        params: Pairs,
        signature: bytes | None,
        signed_with: bytes | None = None,
    ) -> bool:
        """Ask Twilio's library, and try the unlikely readings, of what `matches` does not match."""
        if signature is None or not self.could_match(signature, signed_with):
            return False
        keys = self._keys if signed_with is None else self._named(signed_with)
        if not query:
            # A server can't tell "/path?" from "/path"; a URL registered so is signed so.
            signed = b"?" + signed_text(params)
            everyone = (self._url, self._twin, *self._private)
            for key in keys:
                if any(key.matches(each + signed, signature) for each in everyone):
                    return True
        tail = "?" + query.decode("utf-8", "replace") if query else ""
        return any(key.judge(self.address.url + tail, params, signature) for key in keys)

    def verify_json(
        self,
        query: bytes,
        body: bytes,
        signature: bytes | None,
        signed_with: bytes | None = None,
    ) -> bool:
        """Tell whether the signature and the body's digest in the query are genuine.

        body: raw. Its SHA-256 in hex has to be `bodySHA256` in the query, which is signed as part
        of the URL; without it the body is not covered by the signature, and refused.
        """
        return self.verify(query, (), signature, signed_with) and covers(query, body)

    def _named(self, signed_with: bytes) -> tuple[SigningKey, ...]:
        """Return the key that the header names, none if we do not have it."""
        id_, algorithm = read_settings(signed_with)
        if not id_:
            return self._keys if algorithm == "HMAC_SHA1" else ()
        key = self._shared.get((id_, algorithm))
        return () if key is None else (key,)


def covers(query: bytes, body: bytes) -> bool:
    """Tell whether the digest in a signed query is that of a body of JSON."""
    claimed = parse_qs(query.decode("utf-8", "replace")).get("bodySHA256", [""])[0]
    actual = hashlib.sha256(body).hexdigest()
    return hmac.compare_digest(claimed.encode(), actual.encode())


def read_settings(signed_with: bytes) -> tuple[str, str]:
    """Read the header X-Twilio-Webhooks-Signature-Settings: `key=<id>,algorithm=HMAC_SHA256`.

    Returns the id, "" without one, and the algorithm in upper case, HMAC_SHA1 without one.
    """
    found: dict[str, str] = {}
    for part in signed_with.decode("latin-1").split(","):
        name, _, value = part.partition("=")
        if value.strip():
            found.setdefault(name.strip(), value.strip())
    return found.get("key", ""), found.get("algorithm", "HMAC_SHA1").upper()


class SigningKey:
    """An account's auth token or a shared key's secret, ready to sign and to judge.

    algorithm: one of DIGESTS; auth tokens sign with HMAC_SHA1.
    """

    __slots__ = ("_algorithm", "_digest", "_key", "_official")

    def __init__(self, secret: str, algorithm: str = "HMAC_SHA1") -> None:
        self._key = secret.encode()
        self._algorithm = algorithm
        self._digest = DIGESTS[algorithm]
        self._official = RequestValidator(secret)

    def sign(self, message: bytes) -> bytes:
        """Return what X-Twilio-Signature has to be for `message`: base64, 28 or 44 bytes."""
        return b2a_base64(hmac.digest(self._key, message, self._digest), newline=False)

    def matches(self, message: bytes, signature: bytes) -> bool:
        """Compare in constant time."""
        return hmac.compare_digest(self.sign(message), signature)

    def judge(self, url: str, params: Pairs, signature: bytes) -> bool:
        """Ask Twilio's own library.

        url: absolute, without userinfo and fragment.
        """
        text = signature.decode("latin-1")
        form = _Form(params)
        if urlparse(url).geturl() == url:
            return bool(self._official.validate(url, form, text, self._algorithm))
        # validate() would judge another URL than the one received: urlparse removes tabs, line
        # ends and a lone "?" or ";".
        expected: str = self._official.compute_signature(url, form, self._algorithm)
        return hmac.compare_digest(expected.encode(), signature)


def signed_text(params: Pairs) -> bytes:
    """Return what Twilio appends to the URL of a form POST before signing.

    Names and values without anything between, sorted by name, case-sensitive; each distinct value
    of a repeated name, sorted. Nothing is trimmed and nothing left out.
    """
    fields = dict(params)
    if len(fields) == len(params):
        # No name is repeated, as ever: names alone are sorted in half the time of pairs.
        return "".join([name + fields[name] for name in sorted(fields)]).encode()
    return "".join(chain.from_iterable(sorted(set(params)))).encode()


class _Form(dict[str, list[str]]):
    """Parameters as the official validator reads repeated ones: through `getlist`."""

    def __init__(self, params: Pairs) -> None:
        super().__init__()
        for name, value in params:
            self.setdefault(name, []).append(value)

    def getlist(self, name: str) -> list[str]:
        return self[name]
