"""A request that somebody makes of the instance by hand: checked, and written for others. Pure.

It goes to the instance's own resources at the connector and nowhere else: what a path may hold is
said here, and what it may not (another host, a way out of its base) is refused.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn
from urllib.parse import parse_qsl, quote, unquote, urlencode

from service.core.masking import MASK
from service.core.open_connectors.elements import NAMES_A_SECRET
from service.errors import UsageError

HUB = "/hubs/messaging"
"""Where an instance's resources are; whatever a path names is below it."""

READS = frozenset({"GET", "HEAD"})
REQUEST_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")

OF_THE_PLATFORM: Mapping[str, str] = {
    "instances": "`parley connector show`, `plan` and `apply`",
    "elements": "`parley connector show`, `plan` and `apply`",
    "formulas": "`parley connector formula`",
    "organizations": "`parley connector map`",
    "common-resources": "`parley connector map`",
}
"""Resources that are not the instance's: there, other instances' tokens would be answered."""

LONGEST_PATH = 2_000
LONGEST_BODY = 1_000_000
"""Characters of a path with its query, and of a body: what is longer was a mistake."""

PAGE_TOKENS = frozenset({"elements-next-page-token"})
"""Headers that are called like a secret, and are none: where the next page begins."""

SHOWN_SECRETS = (
    "OPEN_CONNECTORS_USER_SECRET",
    "OPEN_CONNECTORS_ORGANIZATION_SECRET",
    "INSTANCE_TOKEN",
)
"""Variables that stand for the secrets where a request is written for others."""


@dataclass(frozen=True, slots=True)
class HubRequest:
    """A request. path: below the API's base, encoded, with its query. body: JSON, or empty."""

    method: str
    path: str
    body: bytes = field(repr=False)

    @property
    def writes(self) -> bool:
        """Whether it may change something, or send a text."""
        return self.method not in READS


def read_request(
    method: str, path: str, query: Sequence[str] = (), data: str | None = None
) -> HubRequest:
    """Check what somebody typed.

    path: such as "/messages", below the instance's hub or from "/hubs/" on; it may have a query.
    query: "name=value" each. data: JSON. Raises UsageError that says what is meant instead.
    """
    called = method.upper()
    if called not in REQUEST_METHODS:
        raise UsageError(f"METHOD {method}: one of {', '.join(REQUEST_METHODS)}")
    if called in READS and data is not None:
        raise UsageError(f"--data: a {called} has no body")
    bare, _, behind = path.partition("?")
    pairs = [*parse_qsl(behind, keep_blank_values=True), *map(_pair, query)]
    try:
        whole = _hub_path(path, bare)
        if pairs:
            whole += "?" + urlencode(pairs, quote_via=quote)
    except UnicodeEncodeError:
        raise UsageError("PATH or --query: holds bytes that are no UTF-8") from None
    if len(whole) > LONGEST_PATH:
        raise UsageError(f"PATH: longer than {LONGEST_PATH} characters with its query")
    return HubRequest(called, whole, b"" if data is None else _json(data))


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise UsageError(f"--query {text}: say name=value, such as pageSize=5")
    return name, value


def _hub_path(said: str, bare: str) -> str:
    """Return a path below the hub. Raises UsageError for what may lead elsewhere."""

    def refuse(why: str) -> NoReturn:
        raise UsageError(f"PATH {said}: {why}; say one such as /messages")

    if not bare.startswith("/"):
        refuse("begins with / and names a resource of the instance, at no other host")
    opened = unquote(unquote(bare))
    if re.search(r"[\s\\#?\x00-\x1f\x7f]|//", opened) or opened.count("/") != bare.count("/"):
        refuse('has no blanks, no "\\", "#" or "//", written plainly or as escapes')
    if re.search(r"%(?![0-9A-Fa-f]{2})", bare):
        refuse('has a "%" that is no escape')
    segments = opened.strip("/").split("/")
    # Some servers cut a segment at ";" before they look whether it leads upwards.
    if any(each.partition(";")[0] in {"", ".", ".."} for each in segments):
        refuse('has no empty part, and no "." or ".."')
    instead = OF_THE_PLATFORM.get(segments[0].partition(";")[0].lower())
    if instead:
        refuse(f"is the platform's, not the instance's: see {instead}")
    if segments[0] != "hubs":
        bare = HUB + bare
    elif len(segments) < 3:
        refuse("names no resource of the hub")
    return quote(bare, safe="/%:@!$&'()*+,;=~")


def _json(data: str) -> bytes:
    """Return JSON as plain ASCII. Raises UsageError."""

    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is no JSON")

    try:
        value = json.loads(data, parse_constant=refuse)
        body = json.dumps(value, allow_nan=False).encode()
    except (ValueError, RecursionError) as error:
        raise UsageError(f"--data: is no JSON: {error}") from None
    if len(body) > LONGEST_BODY:
        raise UsageError(f"--data: longer than {LONGEST_BODY} bytes")
    return body


def shown_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return an answer's headers as they may be shown: what is named like a secret is masked.

    headers: names in lower case.
    """
    return {name: MASK if _is_private(name) else value for name, value in sorted(headers.items())}


def _is_private(name: str) -> bool:
    if name in PAGE_TOKENS:
        return False
    return bool(NAMES_A_SECRET.search(name) or "cookie" in name or "authoriz" in name)


def as_curl(request: HubRequest, base_url: str) -> str:
    """Write a request for curl, with variables for the secrets. Nothing is sent."""
    user, organization, token = (f"${name}" for name in SHOWN_SECRETS)
    how = "--head" if request.method == "HEAD" else f"-X {request.method}"
    lines = [
        f"curl {how} {shlex.quote(base_url + request.path)}",
        f'-H "Authorization: User {user}, Organization {organization}, Element {token}"',
        "-H 'Accept: application/json'",
    ]
    if request.body:
        lines.append("-H 'Content-Type: application/json'")
        lines.append(f"--data-raw {shlex.quote(request.body.decode())}")
    return " \\\n  ".join(lines)


def as_python(request: HubRequest, base_url: str) -> str:
    """Write a request as a program over httpx, with variables for the secrets. Nothing is sent."""
    words = [f"    {request.method!r},", f"    {base_url + request.path!r},", "    headers={"]
    words += [
        '        "Authorization": f"User {user}, Organization {organization}, Element {token}",',
        '        "Accept": "application/json",',
    ]
    if request.body:
        words.append('        "Content-Type": "application/json",')
    words.append("    },")
    if request.body:
        words.append(f"    content={request.body.decode()!r},")
    words.append("    timeout=30,")
    user, organization, token = SHOWN_SECRETS
    return "\n".join(
        (
            "import os",
            "",
            "import httpx",
            "",
            f'user = os.environ["{user}"]',
            f'organization = os.environ["{organization}"]',
            f'token = os.environ["{token}"]',
            "answer = httpx.request(",
            *words,
            ")",
            "print(answer.status_code)",
            "print(answer.text)",
        )
    )


def read_body(body: bytes) -> Any:
    """Read an answer's body: JSON, else its text; None when it is empty."""
    if not body:
        return None
    text = body.decode("utf-8", "replace")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
