"""Which route a message takes. Pure; `handlers.router` registers, this decides.

Routes are tried in the order written and the first that matches wins. A message that Twilio has
already answered (see `opt_out`) reaches keyword routes alone: an author who asks for STOP by name
gets it, a default that answers everything does not add a second answer to Twilio's.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from service.core.expressions import takes_everything
from service.core.twilio import opt_out
from service.model import Message


@dataclass(frozen=True, slots=True)
class Keyword:
    """Matches when the whole text is one of these words, case, blanks and punctuation aside.

    words: as `normalise` returns them.
    """

    words: tuple[str, ...]

    def match(self, message: Message, plain: str) -> Mapping[str, str | None] | None:
        """Return the handler's arguments, here always none, or None for no match."""
        return {} if plain in self.words else None

    def __str__(self) -> str:
        return f"keyword {' '.join(self.words)}"


@dataclass(frozen=True, slots=True)
class Pattern:
    """Matches when the expression is found anywhere in the text; its named groups are arguments."""

    expression: re.Pattern[str]

    def match(self, message: Message, plain: str) -> Mapping[str, str | None] | None:
        """Return the named groups, None for one that took no part; None for no match."""
        found = self.expression.search(message.body)
        return found.groupdict() if found else None

    def __str__(self) -> str:
        return f"pattern {self.expression.pattern}"


@dataclass(frozen=True, slots=True)
class To:
    """Matches what was sent to this number of ours, written exactly as Twilio writes it."""

    number: str

    def match(self, message: Message, plain: str) -> Mapping[str, str | None] | None:
        """Return no arguments, or None for no match."""
        return {} if message.to == self.number else None

    def __str__(self) -> str:
        return f"to {self.number}"


@dataclass(frozen=True, slots=True)
class Default:
    """Matches everything."""

    def match(self, message: Message, plain: str) -> Mapping[str, str | None] | None:
        """Return no arguments."""
        return {}

    def __str__(self) -> str:
        return "default"


Matcher = Keyword | Pattern | To | Default
"""What a route asks of a message. `match` also gets the normalised text: a long one takes longer to
normalise than all routes to try, so that is done once."""


def normalise(text: str) -> str:
    """Reduce a text to what counts in a keyword.

    Compatibility forms are unified and case folded; blanks, punctuation, symbols and invisible
    characters fall away: "What's up?" and "WHATS UP" are one. Letters with accents stay distinct.
    Returns it in upper case, as keywords are written.
    """
    if text.isascii():
        return "".join(filter(str.isalnum, text)).upper()
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    kept: list[str] = []
    on_letter = False
    for char in INVISIBLE.sub("", folded):
        kind = unicodedata.category(char)
        if kind not in {"Mn", "Mc"}:
            on_letter = kind[0] in "LN"
        # An accent counts on its letter alone: NFKC turns the accent that many type for an
        # apostrophe, as in "what\u00b4s up", into a blank and a combining accent.
        if on_letter:
            kept.append(char)
    return unicodedata.normalize("NFC", "".join(kept).upper())


INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\ufe00-\ufe0f\ufeff\U000e0000-\U000e0fff]"
)
"""Characters that show nothing: the selector behind an emoji, joiners, fillers.

Source: Unicode, Default_Ignorable_Code_Point."""


def find(
    matchers: Sequence[Matcher], message: Message, *, answered: bool
) -> tuple[int, Mapping[str, str | None]] | None:
    """Return the place of the first matcher that matches and its arguments, or None.

    answered: Twilio has answered it; keywords alone are tried.
    """
    plain = normalise(message.body)
    for place, matcher in enumerate(matchers):
        if answered and not isinstance(matcher, Keyword):
            continue
        arguments = matcher.match(message, plain)
        if arguments is not None:
            return place, arguments
    return None


def conflicts(new: Matcher, earlier: Sequence[Matcher]) -> Iterator[tuple[int, str]]:
    """Yield why a new route could never be reached: the earlier one's place, and the reason."""
    for place, old in enumerate(earlier):
        if isinstance(old, Default):
            yield place, "it comes after the default, which takes everything"
        elif isinstance(old, Pattern) and old != new and takes_everything(old.expression):
            # Of what Twilio has answered, keywords are tried all the same.
            if not isinstance(new, Keyword):
                yield place, "it comes after a pattern that is found in every text"
        elif isinstance(new, Keyword) and isinstance(old, Keyword):
            for word in new.words:
                if word in old.words:
                    yield place, f"keyword {word} is taken"
        elif new == old:
            yield place, f"{new} is taken"


def shadows(words: Sequence[str], earlier: Sequence[Matcher]) -> list[int]:
    """Return the places of the patterns that take all of a keyword route's words before it.

    words: as the author wrote them.
    Returns nothing when one word may reach the route as it is usually typed, in whichever case, or
        when Twilio may have answered one, as keywords alone are tried then.
    """
    if any(normalise(word) in opt_out.WORDS for word in words):
        return []
    found = [_taken_by(word, earlier) for word in words]
    return [] if None in found else [place for place in dict.fromkeys(found) if place is not None]


def _taken_by(word: str, earlier: Sequence[Matcher]) -> int | None:
    typed = {word, word.lower(), word.upper(), word.capitalize()}
    for place, old in enumerate(earlier):
        if isinstance(old, Pattern) and all(map(old.expression.search, typed)):
            return place
    return None
