"""What stands before every request to the console, and what every answer of it carries.

A page of another site may lead a browser here: under a name of its own that has come to lead here
(DNS rebinding), by a form, or in a frame. Only names that are ours are answered, only our own pages
write, and no page of ours is shown in another's frame.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping, Sequence

from service.host.answers import Answer, AsgiApp, AsgiMessage, Receive, Scope, Send, answer
from service.web.hosts import is_known

NONCE = "console.nonce"
"""Where a request's scope has the nonce of its page's scripts."""

UNKNOWN_HOST = answer(
    421, b"the console is not asked for by this name; CONSOLE_HOSTS names those it has\n"
)
FOREIGN = answer(403, b"the console is not for other sites' pages\n")
NOT_HTTP = answer(400, b"a Host header is needed, once\n")

READS = frozenset({"GET", "HEAD"})

LASTING = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
)
"""Headers of every answer, beside Content-Security-Policy and Cache-Control."""

CACHE = (b"cache-control", b"no-store")
"""Of every answer that does not say otherwise: pages tell what is somebody's alone."""


def guarded(app: AsgiApp, hosts: Collection[str], *, tls: bool) -> AsgiApp:
    """Put the guard before the console.

    hosts: names and addresses it may be asked for by besides this machine's own.
    tls: browsers come by https, through a proxy.
    """
    names = frozenset(host.lower().rstrip(".") for host in hosts)

    async def guard(scope: Scope, receive: Receive, send: Send) -> None:
        nonce = scope[NONCE] = secrets.token_urlsafe(18)

        async def send_guarded(message: AsgiMessage) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": with_headers(message["headers"], nonce)}
            await send(message)

        refusal = _refusal(scope["method"], scope["headers"], names, tls=tls)
        if refusal is None:
            await app(scope, receive, send_guarded)
        else:
            await refusal.send(send_guarded)

    return guard


def with_headers(
    headers: Sequence[tuple[bytes, bytes]], nonce: str
) -> Sequence[tuple[bytes, bytes]]:
    """Add what every answer carries. nonce: of the scripts that its page may run."""
    cached = any(name == b"cache-control" for name, _ in headers)
    policy = (b"content-security-policy", policy_of(nonce).encode())
    return [*headers, policy, *LASTING, *(() if cached else (CACHE,))]


def policy_of(nonce: str) -> str:
    """Write the Content-Security-Policy of a page."""
    return (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    )


def _refusal(
    method: str, headers: Sequence[tuple[bytes, bytes]], names: Collection[str], *, tls: bool
) -> Answer | None:
    hosts = [value.decode("latin-1") for name, value in headers if name == b"host"]
    if len(hosts) != 1:
        return NOT_HTTP
    # The console is for this machine, unless somebody has named others' addresses.
    if not is_known(hosts[0], names, lambda address: address.is_loopback):
        return UNKNOWN_HOST
    told = {name: value.decode("latin-1").strip().lower() for name, value in headers}
    scheme = "https" if tls else "http"
    return FOREIGN if _is_foreign(method, told, f"{scheme}://{hosts[0].lower()}") else None


def _is_foreign(method: str, told: Mapping[bytes, str], ours: str) -> bool:
    site, origin = told.get(b"sec-fetch-site"), told.get(b"origin")
    if site is not None and site not in {"same-origin", "none"}:
        # A link in a mail or a chat may open a page, in a window of its own.
        opens = told.get(b"sec-fetch-mode") == "navigate"
        whole = told.get(b"sec-fetch-dest", "document") == "document"
        return method not in READS or not (opens and whole)
    # Our pages send no referrer, so browsers say "null" for the origin of our own forms. Then, and
    # where a browser says nothing, the form's token alone tells.
    return origin not in {None, "null", ours}
