"""Hashes passwords by argon2id, off the event loop."""

from __future__ import annotations

import asyncio
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from service.errors import UsageError

if TYPE_CHECKING:
    from argon2 import PasswordHasher

SHORTEST = 12
"""Characters. Source: OWASP and NIST SP 800-63B ask for 8 with a second factor; there is none."""

LONGEST = 1_000
"""Characters: nobody's password, and nothing that would take long to hash."""

MEMORY_KIB, PASSES, LANES = 19_456, 2, 1
"""Source: OWASP, Password Storage Cheat Sheet. Less memory than RFC 9106 has: a process of the
service is to stay small, and few passwords are tried."""

_THREAD = ThreadPoolExecutor(1, thread_name_prefix="passwords")
"""One at a time: many sign-ins at once take the memory of one hash, and one core, at most."""


async def hash_password(password: str) -> str:
    """Return the hash to keep. Raises UsageError for a password that is too short or no text."""
    if len(password) < SHORTEST:
        raise UsageError(f"a password has {SHORTEST} characters or more")
    if len(password) > LONGEST:
        raise UsageError(f"a password has at most {LONGEST:,} characters")
    secret = _bytes_of(password)
    if secret is None:
        raise UsageError("the password is no text in UTF-8")
    return await asyncio.get_running_loop().run_in_executor(_THREAD, _hash, secret)


async def matches(password: str, hashed: str) -> bool:
    """Tell whether a password is the one that was hashed; takes tens of ms either way."""
    secret = _bytes_of(password[: LONGEST + 1])
    if secret is None:
        return False
    return await asyncio.get_running_loop().run_in_executor(_THREAD, _matches, secret, hashed)


def _bytes_of(password: str) -> bytes | None:
    """The same bytes for the same letters: keyboards differ in how they compose an é."""
    try:
        return unicodedata.normalize("NFC", password).encode()
    except UnicodeEncodeError:
        return None


def _hasher() -> PasswordHasher:
    # Here, as a process that nobody signs in to has no use for it.
    from argon2 import PasswordHasher

    return PasswordHasher(time_cost=PASSES, memory_cost=MEMORY_KIB, parallelism=LANES)


def _hash(secret: bytes) -> str:
    return _hasher().hash(secret)


def _matches(secret: bytes, hashed: str) -> bool:
    from argon2.exceptions import InvalidHashError, VerificationError

    try:
        return _hasher().verify(hashed, secret)
    except (VerificationError, InvalidHashError):
        return False
