"""Signing in at the console, by a one-time address or a password, and the sessions that begin so.

Sign-ins and their refusals are noted in the audit trail here. Whatever else is done is noted by who
asks for it, as only they know who that is: `audit.note`.
"""

from __future__ import annotations

import ipaddress
import secrets

from service.errors import SettingsError, SignInRefused, UsageError
from service.operate import audit, passwords
from service.store import sessions as kept
from service.store import tries
from service.store.client import Redis
from service.store.sessions import ROLES, TOKEN_LIVES, Basis, Role, Session

__all__ = [
    "ROLES",
    "TOKEN_LIVES",
    "Role",
    "Session",
    "SignInRefused",
    "address_of",
    "confirm_password",
    "end_session",
    "has_password",
    "make_token",
    "remove_password",
    "root_of",
    "session_of",
    "sessions",
    "set_password",
    "sign_in_by_password",
    "sign_in_by_token",
]


async def make_token(redis: Redis, role: Role = "operator") -> str:
    """Make a token that signs in once, within ten minutes. Raises StoreUnavailable."""
    token = secrets.token_urlsafe(32)
    await kept.keep_token(redis, token, role)
    return token


def address_of(root: str, token: str) -> str:
    """Return the address that signs in with a token. root: as `root_of` returns it."""
    return f"{root}/console/sign-in?token={token}"


def root_of(host: str, port: int) -> str:
    """Return where a browser on this machine finds the console.

    host, port: of the internal listener. Raises SettingsError when the port is 0.
    """
    if not port:
        raise SettingsError(
            ["INTERNAL_PORT is 0, so nobody knows where the console is; set one, such as 8081"]
        )
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return f"http://{host}:{port}"
    if address.is_unspecified or address == ipaddress.ip_address("::1"):
        host = "127.0.0.1" if address.version == 4 else "::1"
    return f"http://[{host}]:{port}" if address.version == 6 else f"http://{host}:{port}"


async def set_password(redis: Redis, password: str, role: Role = "operator") -> int:
    """Set the password of a role, and end the sessions that began by its former one.

    Returns how many. Raises UsageError for one that is too short or another role's, and
        StoreUnavailable.
    """
    for basis in await kept.passwords_of(redis):
        if basis.role != role and await passwords.matches(password, basis.value):
            raise UsageError(f"that is the password of the role {basis.role}; choose another one")
    await kept.keep_password(redis, role, await passwords.hash_password(password))
    return await _end_sessions_by_password(redis, role)


async def remove_password(redis: Redis, role: Role = "operator") -> bool:
    """Take a role's password away, and end the sessions that began by it.

    Returns False when it had none. Raises StoreUnavailable.
    """
    had = await kept.keep_password(redis, role, "")
    await _end_sessions_by_password(redis, role)
    return had


async def has_password(redis: Redis) -> bool:
    """Tell whether any role has a password. Raises StoreUnavailable."""
    return bool(await kept.passwords_of(redis))


async def sign_in_by_token(
    redis: Redis, token: str, *, address: str, agent: str
) -> tuple[str, Session]:
    """Use a one-time token up; return the session's cookie and it.

    One that is good is taken during a wait as well: it can't be guessed, and is the way in that
    nobody's failures close. One that is not counts as a failed sign-in.
    Raises SignInRefused, StoreUnavailable.
    """
    basis = await kept.token_of(redis, token)
    begun = await _begin(redis, basis, address=address, agent=agent) if basis else None
    if begun is not None:
        return begun
    await tries.ask(redis, address)
    reason = "this address has been used or is over ten minutes old; run `parley console` again"
    # A new one is looked at at once.
    raise await _refused(redis, reason, 0, "one-time address", address)


async def sign_in_by_password(
    redis: Redis, password: str, *, address: str, agent: str
) -> tuple[str, Session]:
    """Return the cookie of a new session, and it.

    During a wait not even the right password is looked at. Raises SignInRefused, StoreUnavailable.
    """
    known = await kept.passwords_of(redis)
    if not known:
        raise SignInRefused(
            "no password is set; run `parley console` for a one-time address, "
            "or `parley console password` to set one"
        )
    looked = await tries.ask(redis, address)
    if not looked.now:
        reason = "too many sign-ins failed; no password is looked at for now"
        raise await _refused(redis, reason, looked.wait_ms, "password", address)
    # Each is looked at, so that the time taken does not tell which roles have one.
    right = [basis for basis in known if await passwords.matches(password, basis.value)]
    begun = await _begin(redis, right[0], address=address, agent=agent) if right else None
    if begun is not None:
        return begun
    raise await _refused(redis, "that is not the password", looked.wait_ms, "password", address)


async def confirm_password(redis: Redis, session: Session, password: str, *, address: str) -> None:
    """Ask somebody who is signed in for the password of the session's role once more.

    Failures count as those of sign-ins do. Raises SignInRefused, StoreUnavailable.
    """
    known = [basis for basis in await kept.passwords_of(redis) if basis.role == session.role]
    if not known:
        command = "parley console password"
        command += "" if session.role == "operator" else f" --role {session.role}"
        raise SignInRefused(f"no password of this role is set; `{command}` sets one")
    looked = await tries.ask(redis, address)
    by = f"password, session {session.id},"
    if not looked.now:
        reason = "too many sign-ins failed; no password is looked at for now"
        raise await _refused(redis, reason, looked.wait_ms, by, address)
    if not await passwords.matches(password, known[0].value):
        raise await _refused(redis, "that is not the password", looked.wait_ms, by, address)
    await tries.take_back(redis, address)


async def session_of(redis: Redis, cookie: str, *, renew: bool = True) -> Session | None:
    """Return the session of a cookie; None when it is unknown, over, ended or unseen for too long.

    renew: it was seen just now, which puts its end off; not for what a page asks by itself, or a
        page that is left open would never be signed out. Raises StoreUnavailable.
    """
    return await kept.see(redis, cookie, renew=renew)


async def sessions(redis: Redis) -> list[Session]:
    """Return the sessions there are, newest first. Raises StoreUnavailable."""
    return [session for _, session in await kept.list_all(redis)]


async def end_session(redis: Redis, id: str) -> bool:  # noqa: A002  (what `Session` calls it)
    """End a session; False when there is none of this id (any more). Raises StoreUnavailable."""
    found = [digest for digest, session in await kept.list_all(redis) if session.id == id]
    return any([await kept.end(redis, digest) for digest in found])


async def _begin(
    redis: Redis, basis: Basis, *, address: str, agent: str
) -> tuple[str, Session] | None:
    begun = await kept.begin(redis, basis, address=address, agent=agent)
    if begun is not None:
        session = begun[1]
        who, about = f"{session.who}, session {session.id}", f"from {session.address}"
        await audit.note(redis, who=who, via="console", what="sign in", about=about)
    return begun


async def _refused(redis: Redis, reason: str, wait_ms: int, by: str, address: str) -> SignInRefused:
    await audit.note_refusal(
        redis, who="somebody", about=f"by {by} from {address}", outcome=reason, address=address
    )
    return SignInRefused(reason, -(-wait_ms // 1000))


async def _end_sessions_by_password(redis: Redis, role: Role) -> int:
    ended = [
        await kept.end(redis, digest)
        for digest, session in await kept.list_all(redis)
        if session.who == f"{role} by password"
    ]
    return sum(ended)
