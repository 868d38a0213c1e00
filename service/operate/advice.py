"""What to do about a refusal, where the operator's files have nothing to do with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from service.errors import ConnectorError, ConnectorGone, ConnectorRefused


@contextmanager
def advising(advice: str) -> Iterator[None]:
    """Give what the connector refuses in here this advice."""
    try:
        yield
    except ConnectorError as error:
        advise(error, advice)
        raise


def advise(error: ConnectorError | None, advice: str) -> None:
    """Give a refusal, or what is not there, this advice; Twilio's own word has one already."""
    if isinstance(error, ConnectorRefused | ConnectorGone) and error.code is None:
        error.advice = advice
