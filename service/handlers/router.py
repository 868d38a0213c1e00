"""The router: an explicit, ordered table of routes, filled by decorators.

A decorator records the function and returns it unchanged, so handlers stay plain functions that a
test can call. Whatever can be wrong with a route is found while it is registered.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar, overload

from service.core.expressions import takes_nothing
from service.core.matching import (
    Default,
    Keyword,
    Matcher,
    Pattern,
    To,
    conflicts,
    find,
    normalise,
    shadows,
)
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

    place: where it was made, `file:line`. doubts: of routes that are hardly ever reached, each a
        sentence that begins in the same way; for the log.
    """

    def __init__(self) -> None:
        self.place = str(_caller())
        self.doubts: list[str] = []
        self._matchers: list[Matcher] = []
        self._handlers: list[Handler] = []
        self._places: list[_Place] = []

    def __len__(self) -> int:
        return len(self._matchers)

    @property
    def matchers(self) -> tuple[Matcher, ...]:
        """What each route asks of a message, in the order in which they are tried."""
        return tuple(self._matchers)

    def keyword(self, *words: str) -> Callable[[H], H]:
        """Route texts that are one of `words`; case, blanks and punctuation are forgiven."""
        place = _caller()
        if not words or not all(map(_is_text, words)):
            raise HandlersError(f'{place}: keyword needs its words: @router.keyword("BALANCE")')
        for word in words:
            if not normalise(word):
                raise HandlersError(f"{place}: keyword {word!r} has no letter or digit")
        matcher = Keyword(tuple(dict.fromkeys(map(normalise, words))))

        def register(handler: H) -> H:
            hiding = shadows(words, self._matchers)
            added = self._add(matcher, handler, place)
            if hiding:
                routes = ", ".join(f"{self._matchers[at]} at {self._places[at]}" for at in hiding)
                self.doubts.append(
                    f"{place}: {matcher} is not reached by its words as people type them: "
                    f"they are taken before it ({routes})"
                )
            return added

        return register

    def pattern(self, expression: str | re.Pattern[str]) -> Callable[[H], H]:
        """Route texts in which `expression` is found; its named groups become arguments.

        A string is compiled without regard to case; a compiled expression keeps its own flags.
        Expressions run in the event loop: avoid nested repetitions, which can take for ever.
        """
        place = _caller()
        try:
            compiled = (
                re.compile(expression, re.IGNORECASE) if isinstance(expression, str) else expression
            )
        except re.error as error:
            raise HandlersError(
                f"{place}: pattern {expression!r} does not compile: {error}"
            ) from error
        if not _is_text(getattr(compiled, "pattern", None)):
            raise HandlersError(f'{place}: pattern needs its expression: @router.pattern("order")')
        if takes_nothing(compiled):
            raise HandlersError(
                f"{place}: pattern {compiled.pattern!r} is found in no text: it asks for something "
                r"before its beginning or behind its end; `^` and `$` as such are `\^` and `\$`"
            )
        return self._register(Pattern(compiled), place)

    def to(self, number: str) -> Callable[[H], H]:
        """Route whatever is sent to this number of ours ("+14155550100", "whatsapp:+1...")."""
        place = _caller()
        if not _is_text(number) or not number.strip():
            raise HandlersError(f'{place}: to needs a number: @router.to("+14155550100")')
        address = number.strip().rpartition(":")[2]
        if address.startswith("+") and not re.fullmatch(r"\+[0-9]+", address):
            raise HandlersError(
                f"{place}: to needs a number as Twilio writes it, as +14155550100, not {number!r}"
            )
        return self._register(To(number.strip()), place)

    @overload
    def default(self, handler: H, /) -> H: ...

    @overload
    def default(self) -> Callable[[H], H]: ...

    def default(self, *handler: H) -> H | Callable[[H], H]:
        """Route whatever no route before matched; the last route there can be.

        Written `@router.default` or `@router.default()`.
        """
        place = _caller()
        if len(handler) > 1:
            raise HandlersError(f"{place}: default takes one handler")
        register = self._register(Default(), place)
        return register(*handler) if handler else register

    def choose(self, message: Message, *, answered: bool = False) -> Choice | None:
        """Return the handler for a message, or None if no route matches.

        answered: Twilio has answered it itself, so that keyword routes alone may take it.
        """
        found = find(self._matchers, message, answered=answered)
        if found is None:
            return None
        place, arguments = found
        return Choice(str(self._matchers[place]), self._handlers[place], arguments)

    @property
    def routes(self) -> tuple[tuple[str, str], ...]:
        """Every route in order: as `Choice.route` names it, and where it is, `file:line`."""
        return tuple(
            (str(matcher), str(place))
            for matcher, place in zip(self._matchers, self._places, strict=True)
        )

    def _register(self, matcher: Matcher, place: _Place) -> Callable[[H], H]:
        return lambda handler: self._add(matcher, handler, place)

    def _add(self, matcher: Matcher, handler: H, place: _Place) -> H:
        if not callable(handler):
            raise HandlersError(
                f"{place}: a route decorates a function, not {type(handler).__name__}"
            )
        for earlier, reason in conflicts(matcher, self._matchers):
            raise HandlersError(
                f"{place}: {matcher} can never be reached: {reason} "
                f"({self._matchers[earlier]} at {self._places[earlier]})"
            )
        _check_arguments(matcher, handler, _place_of(handler, place))
        self._matchers.append(matcher)
        self._handlers.append(handler)
        self._places.append(place)
        return handler


def _place_of(handler: Handler, route: _Place) -> _Place:
    """Find where a handler is written, or where its route is if it is no function."""
    code = getattr(inspect.unwrap(handler), "__code__", None)
    return _Place(code.co_filename, code.co_firstlineno) if code else route


def _is_text(value: object) -> bool:
    """Say whether it is a text: an author may forget a decorator's arguments, or quotes."""
    return isinstance(value, str)


def _caller() -> _Place:
    """Find the line outside this file that is registering a route."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_code.co_filename == __file__:
        frame = frame.f_back
    return _Place(frame.f_code.co_filename, frame.f_lineno) if frame else _Place("?", 0)


def _check_arguments(matcher: Matcher, handler: Handler, place: _Place) -> None:
    """See that the handler can be called with a message and the pattern's groups.

    Looks at what will be called: a decorator may add arguments to what it wraps.
    """
    groups = matcher.expression.groupindex if isinstance(matcher, Pattern) else {}
    name = getattr(handler, "__name__", repr(handler))
    try:
        signature = inspect.signature(handler, follow_wrapped=False)
    except ValueError:
        return  # Written in C, some functions don't tell what they take.
    try:
        signature.bind(None, **dict.fromkeys(groups))
    except TypeError as error:
        takes = ", ".join(("message", *groups))
        raise HandlersError(f"{place}: {name} must take ({takes}): {error}") from error
    if inspect.isgeneratorfunction(handler) or inspect.isasyncgenfunction(handler):
        raise HandlersError(f"{place}: {name} yields; return a list of replies instead")
