"""The console's cookies: that of a session, and that of the sign-in page's forms.

Browsers share cookies between the ports of a host, so their names hold the port: two deployments on
one machine would sign each other out. Behind TLS they carry the prefix that no other site of the
domain can set.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from service.web.console.paths import ROOT, SIGN_IN

SESSION_S = 12 * 3600
"""As long as a session lasts at most; Redis knows when it is over before."""

FORM_S = 3600

LONGEST = 200
"""Characters of a value that may be ours."""


class Cookies:
    """Reads and sets them. tls: browsers come by https alone."""

    def __init__(self, *, tls: bool) -> None:
        self._tls = tls

    def session(self, request: Request) -> str:
        """Return the session's; "" without one."""
        return self._read(request, "session")

    def form(self, request: Request) -> str:
        """Return that of the sign-in page's forms; "" without one."""
        return self._read(request, "form")

    def set_session(self, request: Request, response: Response, value: str) -> None:
        """Set the session's."""
        self._set(response, self._name(request, "session"), value, path=ROOT, age_s=SESSION_S)

    def set_form(self, request: Request, response: Response, value: str) -> None:
        """Set that of the sign-in page's forms."""
        self._set(response, self._name(request, "form"), value, path=SIGN_IN, age_s=FORM_S)

    def forget_session(self, request: Request, response: Response) -> None:
        """Have the browser drop the session's."""
        self._set(response, self._name(request, "session"), "", path=ROOT, age_s=0)

    def forget_form(self, request: Request, response: Response) -> None:
        """Have the browser drop that of the sign-in page's forms."""
        self._set(response, self._name(request, "form"), "", path=SIGN_IN, age_s=0)

    def _name(self, request: Request, what: str) -> str:
        port = urlsplit(f"//{request.headers.get('host', '')}").port
        name = f"parley-{what}" + (f"-{port}" if port else "")
        return f"__Host-{name}" if self._tls else name

    def _read(self, request: Request, what: str) -> str:
        value = request.cookies.get(self._name(request, what), "")
        return value if len(value) <= LONGEST and value.isascii() else ""

    def _set(self, response: Response, name: str, value: str, *, path: str, age_s: int) -> None:
        response.set_cookie(
            name,
            value,
            max_age=age_s,
            path="/" if self._tls else path,  # The prefix asks for it.
            secure=self._tls,
            httponly=True,
            samesite="strict",
        )
