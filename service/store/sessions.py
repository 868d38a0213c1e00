"""Sessions of the console, and what they begin with: one-time tokens and passwords.

Redis holds digests of tokens and cookies and hashes of passwords, never these themselves.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal, NamedTuple

from service.core.proofs import csrf_of, digest_of
from service.store import keys
from service.store.failures import translated
from service.store.scripts import (
    BEGIN_SESSION,
    END_SESSION,
    MAKE_TOKEN,
    SEE_SESSION,
    SET_PASSWORD,
    run_alone,
)
from service.store.stored import moment
from service.store.tries import IN_ALL, OF_NETWORK, network_of

if TYPE_CHECKING:
    from service.store.client import Redis

Role = Literal["viewer", "operator"]
"""viewer: sees. operator: acts as well."""

ROLES: tuple[Role, ...] = ("operator", "viewer")

TOKEN_LIVES = timedelta(minutes=10)
"""Long enough to copy an address to a browser, too short for one that is found in a history."""

SESSION_LIVES = timedelta(hours=12)
"""A working day: nobody signs in twice in one, and a forgotten session is gone the next."""

SESSION_UNSEEN = timedelta(hours=1)
"""A lunch break: a browser that nobody sits at is signed out after it."""

MOST_SESSIONS = 100
"""Far more than people who look; whoever has a password could fill Redis otherwise."""

AHEAD = timedelta(minutes=1)
"""How far Redis's clock may be put back without ending sessions."""

SHOWN_AGENT = 200
SHOWN_ADDRESS = 64
"""Characters that are kept of what a browser says of itself, and of its address."""


@dataclass(frozen=True, slots=True)
class Session:
    """One session of the console.

    id: public and short; not the cookie. who: for the audit trail, such as "operator by password".
    began, seen, ends: aware; it ends earlier if somebody ends it. address: of the peer that signed
    in. agent: its User-Agent, printable. csrf: what its forms carry; "" where the session was
    looked up without its cookie.
    """

    id: str
    role: Role
    who: str
    began: datetime
    seen: datetime
    ends: datetime
    address: str
    agent: str
    csrf: str


class Basis(NamedTuple):
    """What a sign-in rests on: a field of a hash, and what has to be in it still.

    by: for people, "one-time address" or "password".
    """

    key: str
    field: str
    value: str
    role: Role
    by: str


async def keep_token(client: Redis, token: str, role: Role) -> None:
    """Have a token sign in once within `TOKEN_LIVES`. Raises StoreUnavailable."""
    place = (keys.sign_in_token(digest_of(token)),)
    await run_alone(client, MAKE_TOKEN, place, (role, _ms(TOKEN_LIVES)))


async def token_of(client: Redis, token: str) -> Basis | None:
    """Look a token up, and leave it as it is; None when it was used, is over or never was one.

    Raises StoreUnavailable.
    """
    key = keys.sign_in_token(digest_of(token))
    with translated():
        found = await client.hgetall(key)
    role = _role(found.get(b"role", b""))
    return Basis(key, "role", role, role, "one-time address") if role else None


async def keep_password(client: Redis, role: Role, hashed: str) -> bool:
    """Keep the hash of a role's password, "" to have none; tell whether it had one.

    Raises StoreUnavailable.
    """
    return bool(await run_alone(client, SET_PASSWORD, (keys.PASSWORDS,), (role, hashed)))


async def passwords_of(client: Redis) -> Sequence[Basis]:
    """Return the hash of each role's password. Raises StoreUnavailable."""
    with translated():
        found = await client.hgetall(keys.PASSWORDS)
    return [
        Basis(keys.PASSWORDS, role, found[role.encode()].decode(errors="replace"), role, "password")
        for role in ROLES
        if role.encode() in found
    ]


async def begin(
    client: Redis, basis: Basis, *, address: str, agent: str
) -> tuple[str, Session] | None:
    """Begin a session, and return its cookie and it; None when its basis is gone meanwhile.

    Raises StoreUnavailable.
    """
    cookie = secrets.token_urlsafe(32)
    fields = {
        "id": secrets.token_hex(4),
        "role": basis.role,
        "who": f"{basis.role} by {basis.by}",
        "address": _shown(address, SHOWN_ADDRESS),
        "agent": _shown(agent, SHOWN_AGENT),
    }
    places = [keys.session(digest_of(cookie)), keys.SESSIONS, basis.key]
    if basis.key == keys.PASSWORDS:
        places += [keys.tries_of(digest_of(network_of(address))), keys.TRIES]
    began = await run_alone(
        client,
        BEGIN_SESSION,
        places,
        (
            *(basis.field, basis.value),
            *(_ms(SESSION_LIVES), _ms(SESSION_UNSEEN), MOST_SESSIONS),
            *(OF_NETWORK.forgotten_ms, IN_ALL.forgotten_ms),
            *(word for pair in fields.items() for word in pair),
        ),
    )
    if not began:
        return None
    at = str(began).encode()
    kept = {name.encode(): value.encode() for name, value in fields.items()}
    session = _read(kept | {b"began": at, b"seen": at}, csrf_of(cookie))
    return (cookie, session) if session is not None else None


async def see(client: Redis, cookie: str, *, renew: bool) -> Session | None:
    """Return the session of a cookie; None when there is none (any more).

    renew: it was seen just now, which puts its end off. Raises StoreUnavailable.
    """
    found = await _see(client, digest_of(cookie), renew=renew)
    return _read(found, csrf_of(cookie))


async def list_all(client: Redis) -> list[tuple[str, Session]]:
    """Return the digest of each session's cookie and it, newest first. Raises StoreUnavailable."""
    with translated():
        digests = [raw.decode() for raw in await client.zrange(keys.SESSIONS, 0, -1)]
    found = [(each, _read(await _see(client, each, renew=False), "")) for each in digests]
    there = [(digest, session) for digest, session in found if session is not None]
    return sorted(there, key=lambda each: each[1].began, reverse=True)


async def end(client: Redis, digest: str) -> bool:
    """End the session of this digest; False when there is none (any more).

    Raises StoreUnavailable.
    """
    return bool(await run_alone(client, END_SESSION, (keys.session(digest), keys.SESSIONS), ()))


async def _see(client: Redis, digest: str, *, renew: bool) -> Mapping[bytes, bytes]:
    words = await run_alone(
        client,
        SEE_SESSION,
        (keys.session(digest), keys.SESSIONS),
        (_ms(SESSION_LIVES), _ms(SESSION_UNSEEN), _ms(AHEAD), int(renew)),
    )
    return dict(zip(words[::2], words[1::2], strict=True))


def _read(fields: Mapping[bytes, bytes], csrf: str) -> Session | None:
    role = _role(fields.get(b"role", b""))
    if role is None:
        return None
    began, seen = moment(fields[b"began"]), moment(fields[b"seen"])
    text = {name: fields.get(name.encode(), b"").decode(errors="replace") for name in _TEXTS}
    ends = min(began + SESSION_LIVES, seen + SESSION_UNSEEN)
    return Session(role=role, began=began, seen=seen, ends=ends, csrf=csrf, **text)


_TEXTS = ("id", "who", "address", "agent")


def _role(raw: bytes) -> Role | None:
    return next((role for role in ROLES if role.encode() == raw), None)


def _shown(text: str, longest: int) -> str:
    return "".join(c if c.isprintable() else "?" for c in text[:longest])


def _ms(span: timedelta) -> int:
    return span // timedelta(milliseconds=1)
