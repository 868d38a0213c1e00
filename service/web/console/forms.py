"""What forms send, and the tokens that show that a form was ours.

Somebody who is signed in has a token by session. Somebody who is not has a cookie with a secret,
and the forms of the sign-in page carry what is worked out from it: nothing of it is kept.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

from starlette.exceptions import HTTPException
from starlette.requests import Request

CSRF = "csrf"
"""The field of a form that holds its token."""

LIMIT_BYTES = 16 * 1024
"""Of a form; a password and a place to come back to are far below."""

FIELDS = 20


@dataclass(frozen=True, slots=True)
class FormBounds:
    """How much a form may hold."""

    limit_bytes: int = LIMIT_BYTES
    fields: int = FIELDS


USUAL = FormBounds()

FORM = "application/x-www-form-urlencoded"


async def read_form(request: Request, bounds: FormBounds = USUAL) -> Mapping[str, str]:
    """Read the fields of a form; of several of one name, the last.

    Raises HTTPException (400, 413, 415).
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM:
        raise HTTPException(415, "This page takes forms and nothing else.")
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > bounds.limit_bytes:
            raise HTTPException(413, f"The form is longer than {bounds.limit_bytes} bytes.")
    try:
        pairs = parse_qsl(
            body.decode(), keep_blank_values=True, max_num_fields=bounds.fields, errors="strict"
        )
    except ValueError as error:
        raise HTTPException(400, "The form can't be read.") from error
    return dict(pairs)


def check_csrf(form: Mapping[str, str], token: str) -> None:
    """Let a form pass that carries `token`. Raises HTTPException (403)."""
    if not token or not secrets.compare_digest(form.get(CSRF, "").encode(), token.encode()):
        raise HTTPException(403, "The form is not from this session. Go back, reload, try again.")


def form_secret() -> str:
    """Make the secret of somebody who is not signed in."""
    return secrets.token_urlsafe(32)


def csrf_of(secret: str) -> str:
    """Work out what the forms of whoever has `secret` carry; "" for "", which passes nothing."""
    if not secret:
        return ""
    return hashlib.sha256(b"parley sign-in form\0" + secret.encode()).hexdigest()
