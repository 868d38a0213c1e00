"""The router: an explicit, ordered table of routes, filled by decorators.

A decorator records the function and returns it unchanged, so handlers stay plain functions that a
test can call. Whatever can be wrong with a route is found while it is registered.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from service.core.matching import Default, Keyword, Matcher, Pattern, To, conflicts, find, normalise
from service.errors import HandlersError
from service.model import Message, Reply

Outcome = str | Reply | Sequence[str | Reply] | None
"""What a handler returns: nothing to send, a text, a reply, or several in order."""

Handler = Callable[..., Outcome | Awaitable[Outcome]]
H = TypeVar("H", bound=Handler)


@dataclass(frozen=True, slots=True)
class Choice:
    """The handler for a message.

    route: what matched, for logs and dead letters ("keyword BALANCE", "default").
    arguments: named groups of a pattern, None for one that took no part.
    """

    route: str
    handler: Handler
    arguments: Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class _Place:
    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class Router:
    """An ordered table of routes; the first that matches a message wins.

    Every decorator raises HandlersError, beginning with `file:line:`, for a route that could never
    be reached, an expression that does not compile, or a handler that can't take its arguments.
    """

    def __init__(self) -> None:
        self._matchers: list[Matcher] = []
        self._handlers: list[Handler] = []
        self._places: list[_Place] = []

    def __len__(self) -> int:
        return len(self._matchers)

    def keyword(self, *words: str) -> Callable[[H], H]:
        """Route texts that are one of `words`; case, blanks and punctuation are forgiven."""

        def register(handler: H) -> H:
            place = _place_of(handler)
            if not words or any(callable(word) for word in words):
                raise HandlersError(f'{place}: keyword needs its words: @router.keyword("BALANCE")')
            normalised = tuple(normalise(word) for word in words)
            for word, plain in zip(words, normalised, strict=True):
                if not plain:
                    raise HandlersError(f"{place}: keyword {word!r} has no letter or digit")
            return self._add(Keyword(normalised), handler, place)

        return register

    def pattern(self, expression: str | re.Pattern[str]) -> Callable[[H], H]:
        """Route texts in which `expression` is found; its named groups become arguments.

        A string is compiled without regard to case; a compiled expression keeps its own flags.
        Expressions run in the event loop: avoid nested repetitions, which can take for ever.
        """

        def register(handler: H) -> H:
            place = _place_of(handler)
            try:
                compiled = (
                    re.compile(expression, re.IGNORECASE)
                    if isinstance(expression, str)
                    else expression
                )
            except re.error as error:
                raise HandlersError(
                    f"{place}: pattern {expression!r} does not compile: {error}"
                ) from error
            return self._add(Pattern(compiled), handler, place)

        return register

    def to(self, number: str) -> Callable[[H], H]:
        """Route whatever is sent to this number of ours ("+14155550100", "whatsapp:+1...")."""

        def register(handler: H) -> H:
            place = _place_of(handler)
            if callable(number) or not number.strip():
                raise HandlersError(f'{place}: to needs a number: @router.to("+14155550100")')
            return self._add(To(number.strip()), handler, place)

        return register

    def default(self, handler: H) -> H:
        """Route whatever no route before matched; the last route there can be."""
        return self._add(Default(), handler, _place_of(handler))

    def choose(self, message: Message) -> Choice | None:
        """Return the handler for a message, or None if no route matches."""
        found = find(self._matchers, message)
        if found is None:
            return None
        place, arguments = found
        return Choice(str(self._matchers[place]), self._handlers[place], arguments)

    def _add(self, matcher: Matcher, handler: H, place: _Place) -> H:
        for earlier, reason in conflicts(matcher, self._matchers):
            raise HandlersError(
                f"{place}: {matcher} can never be reached: {reason} "
                f"({self._matchers[earlier]} at {self._places[earlier]})"
            )
        _check_arguments(matcher, handler, place)
        self._matchers.append(matcher)
        self._handlers.append(handler)
        self._places.append(place)
        return handler


def _place_of(handler: object) -> _Place:
    """Find where a handler is written."""
    if not callable(handler):
        raise HandlersError(f"a route decorates a function, not {type(handler).__name__}")
    code = getattr(inspect.unwrap(handler), "__code__", None)
    if code is None:
        return _Place(getattr(handler, "__module__", "?"), 0)
    return _Place(code.co_filename, code.co_firstlineno)


def _check_arguments(matcher: Matcher, handler: Handler, place: _Place) -> None:
    """See that the handler can be called with a message and the pattern's groups."""
    groups = matcher.expression.groupindex if isinstance(matcher, Pattern) else {}
    name = getattr(handler, "__name__", repr(handler))
    try:
        inspect.signature(handler).bind(None, **dict.fromkeys(groups))
    except TypeError as error:
        takes = ", ".join(("message", *groups))
        raise HandlersError(f"{place}: {name} must take ({takes}): {error}") from error
    if inspect.isgeneratorfunction(handler) or inspect.isasyncgenfunction(handler):
        raise HandlersError(f"{place}: {name} yields; return a list of replies instead")
