"""What redis-py, a socket or a script reports, as Parley's errors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from redis.exceptions import RedisError, ResponseError

from service.errors import StoreError, StoreUnavailable

PASSING = {
    "OOM",
    "READONLY",
    "LOADING",
    "CLUSTERDOWN",
    "TRYAGAIN",
    "MASTERDOWN",
    "NOREPLICAS",
    "MISCONF",
}
"""Codes of Redis errors that end by themselves or by an operator: refuse now, try later."""

SCRIPT_LINE = re.compile(r"@?user_script: ?\d+: ")


@contextmanager
def translated() -> Iterator[None]:
    """Raise StoreUnavailable for whatever redis-py or the socket raises inside."""
    try:
        yield
    except (RedisError, OSError, TimeoutError) as error:
        raise unavailable(error) from error
    except RuntimeError as error:
        # What uvloop raises for a connection that was reset, where `handover` is not in between.
        if "the handler is closed" not in str(error):
            raise
        raise StoreUnavailable("Redis: the connection was lost") from error


def describe(error: BaseException) -> str:
    """One line about an error, with its class where it has no text of its own.

    No password: a server that does not know AUTH or HELLO answers with what it was given.
    """
    # Sentinel's errors go on with each client they came from, a kilobyte of it.
    text = str(error).partition(" : <redis.")[0].partition(", with args beginning with")[0]
    return text or type(error).__name__


def unavailable(error: Exception) -> StoreUnavailable:
    """Make the error for what kept a command from an answer."""
    found = StoreUnavailable(f"Redis: {describe(error)}")
    found.__cause__ = error
    return found


def answered(text: str, cause: Exception | None = None) -> StoreError:
    """Make the error for one that Redis answered.

    text: its description. cause: as redis-py has it; None when it comes from inside a script.
    """
    # redis-py cuts the code off the text of an error it knows. From inside a script it comes
    # whole; with the protocol's "-" before it, and Redis 6.2 names the script's line first.
    plain = SCRIPT_LINE.sub("", text).removeprefix("-")
    if code := code_of(cause):
        plain = f"{code} {plain.removeprefix(code).strip()}"
    else:
        code = plain.partition(" ")[0]
    passing = code in PASSING or (cause is not None and not isinstance(cause, ResponseError))
    error: StoreError = (StoreUnavailable if passing else StoreError)(f"Redis: {plain}")
    error.__cause__ = cause
    return error


def code_of(error: object) -> str:
    """Return the code of an error of Redis's as redis-py has it, "" for every other one."""
    return str(getattr(error, "status_code", None) or "")
