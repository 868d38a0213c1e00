"""Keeps what a connector's error repeats of our requests out of logs, errors and Redis. Pure.

An error may quote anything that was sent: secrets, a person's text and number, whole or in part,
as they are or written otherwise (JSON within JSON, a URL, Basic credentials), in any of its fields.
"""

from __future__ import annotations

import html
import re
from base64 import b64encode
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

from service.core.masking import MASK, mask_number

LONGEST_READ = 16_000
LONGEST_TOLD = 1_000
"""Characters of an error that are looked at, and that are told: each dead letter keeps them."""

LONGEST_ID = 64
"""Characters of a request id; real ones are 24 hexadecimal digits, or a UUID of 36."""

FRAGMENT = 16
"""As many characters in a row of somebody's text are a quotation of it: errors shorten texts."""

WORD = 8
"""A text below this is masked where it stands as a word: "1" is part of too many others."""


CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]+")
"""What moves a cursor, breaks a line or turns the direction of writing."""

LEVELS = 4
"""How often an answer is opened: JSON in a URL in a page in JSON."""


@dataclass(frozen=True, slots=True)
class Private:
    """What an error must not repeat.

    secrets: ours. texts: what a person gets to read, addresses of pictures included.
    numbers: theirs and ours.
    """

    secrets: Collection[str] = field(default=(), repr=False)
    texts: Collection[str] = field(default=(), repr=False)
    numbers: Collection[str] = field(default=(), repr=False)


def mask_echoes(said: str, private: Private) -> str:
    """Return what was said without what is private, and not longer than `LONGEST_TOLD`.

    Escapes are undone on the way: what stands behind them has to be read.
    """
    secrets = sorted(
        {way for secret in private.secrets for way in _spellings(secret)}, key=len, reverse=True
    )
    shown = _without(said[:LONGEST_READ], secrets, private.texts)
    for _ in range(LEVELS):
        before, shown = shown, _without(_open(shown), secrets, private.texts)
        if shown == before:
            break
    for text in filter(None, private.texts):
        for way in {text, _open(text)}:
            shown = _without_fragments(shown, way)
    for number in filter(None, private.numbers):
        shown = _number(number).sub(lambda found: mask_number(found[0]), shown)
    shown = OTHER_NUMBERS.sub(lambda found: mask_number(found[0]), shown)
    shown = CONTROLS.sub(" ", shown)
    if len(said) > LONGEST_READ:
        # A secret that was cut in two can't be known by its beginning.
        shown = shown[: -max(map(len, secrets), default=0) or None]
    return shown if len(shown) <= LONGEST_TOLD else f"{shown[:LONGEST_TOLD]}..."


def mask_secrets(value: Any, secrets: Collection[str]) -> Any:
    """Return JSON, or a text, without secrets, however they are written in it.

    Unlike `mask_echoes` it leaves numbers and texts, and their length: this is for who asked.
    """
    ways = sorted({way for each in secrets for way in _spellings(each)}, key=len, reverse=True)
    return _mask_in(value, ways)


def _mask_in(value: Any, ways: Sequence[str]) -> Any:
    if isinstance(value, dict):
        return {_mask_in(name, ways): _mask_in(each, ways) for name, each in value.items()}
    if isinstance(value, list):
        return [_mask_in(each, ways) for each in value]
    if not isinstance(value, str):
        return value
    shown = opened = _without(value, ways, ())
    for _ in range(LEVELS):
        opened = _open(opened)
        if any(way in opened for way in ways):
            # Where it begins and ends behind its escapes is not known.
            return MASK
    return shown


def read_id(said: object, private: Private) -> str | None:
    """Return a request id in a sane form; None for what is none, or holds what is private."""
    if isinstance(said, bool) or not isinstance(said, str | int):
        return None
    text = CONTROLS.sub("", str(said))
    if mask_echoes(text, private) != text:
        return None
    return re.sub(r"[^0-9A-Za-z_.:-]", "", text)[:LONGEST_ID] or None


def read_content_type(said: str, private: Private) -> str:
    """Return a content type without its parameters; what is none is not repeated."""
    kind = said.partition(";")[0].strip()
    if not kind:
        return "no content type"
    sane = re.fullmatch(r"[\w!#$&^.+-]{1,60}/[\w!#$&^.+-]{1,60}", kind)
    return kind if sane and mask_echoes(kind, private) == kind else "an odd content type"


OTHER_NUMBERS = re.compile(
    r"""\+\d{7,15}                                  # E.164
      | \+\d{1,3}[ .-]?\(?\d{1,4}\)?(?:[ .-]?\d{2,4}){2,4}   # the same, for people
      | (?<!\w)\(?[2-9]\d{2}\)?[ .-]\d{3}[ .-]\d{4}(?!\w)    # as North America writes it
      | (?<![\w.])\d{10,15}(?![\w.])                # without a plus
    """,
    re.VERBOSE,
)
"""What looks like a telephone number, whoever's it is."""


@lru_cache(maxsize=256)
def _number(number: str) -> re.Pattern[str]:
    """Return what a number looks like however it is written, with its country code or without."""
    digits = re.sub(r"\D", "", number)
    if len(digits) < WORD or not re.search(r"\+\d+$", number):
        return re.compile(rf"(?<!\w){re.escape(number)}(?!\w)")
    shorter = [digits[-left:] for left in (10, 9, 8) if left < len(digits)]
    written = "|".join(r"[\s().-]*".join(part) for part in (digits, *shorter))
    return re.compile(rf"(?:\+|\b00)?\(?(?:{written})(?!\d)")


def _without(said: str, secrets: Sequence[str], texts: Collection[str]) -> str:
    """Mask secrets and texts that stand there whole."""
    for secret in secrets:
        said = said.replace(secret, MASK)
    for text in sorted(filter(None, texts), key=len, reverse=True):
        if len(text) < WORD:
            said = re.sub(rf"(?<!\w){re.escape(text)}(?!\w)", MASK, said)
        else:
            said = said.replace(text, MASK)
    return said


ESCAPES = re.compile(r"""\\+(?:u([0-9a-fA-F]{4})|([bfnrt"'/]))|\\{2,}""")
LETTERS = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


def _open(said: str) -> str:
    """Undo what JSON (of any depth), HTML and URLs do to what stands in them."""

    def plain(found: re.Match[str]) -> str:
        if found[1]:
            return chr(int(found[1], 16))
        return LETTERS.get(found[2], found[2]) if found[2] else "\\"

    said = ESCAPES.sub(plain, said)
    # JSON writes what lies beyond 16 bits in two halves.
    said = said.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return unquote(html.unescape(said))


@lru_cache(maxsize=64)
def _spellings(secret: str) -> frozenset[str]:
    """Return the ways in which a secret may be found.

    As it is, as it is once its own escapes ("%41") are undone with those of what it is quoted in,
    and as it looks within base64: Basic credentials.
    """
    if not secret:
        return frozenset()
    opened = [secret]
    for _ in range(LEVELS):
        opened.append(_open(opened[-1]))
    return frozenset((*filter(None, opened), *_encoded(secret)))


def _encoded(secret: str) -> Iterator[str]:
    raw = secret.encode("utf-8", "replace")
    for before in range(3):
        whole = b64encode(b"\0" * before + raw).decode().rstrip("=")
        # What is shared with the bytes before and behind it says nothing of the secret alone.
        inner = whole[-(-before * 8 // 6) : len(whole) - (1 if (before + len(raw)) % 3 else 0)]
        if len(inner) >= WORD:
            yield inner


def _without_fragments(said: str, text: str) -> str:
    """Mask whatever has `FRAGMENT` or more characters in a row in common with a text."""
    # A form writes blanks as "+".
    text, read = text.replace("+", " "), said.replace("+", " ")
    known = {text[place : place + FRAGMENT] for place in range(len(text) - FRAGMENT + 1)}
    if not known:
        return said
    shown, kept, place = [], 0, 0
    while place <= len(read) - FRAGMENT:
        if read[place : place + FRAGMENT] not in known:
            place += 1
            continue
        end = place + FRAGMENT
        while end < len(read) and read[end - FRAGMENT + 1 : end + 1] in known:
            end += 1
        shown += [said[kept:place], MASK]
        kept = place = end
    return "".join((*shown, said[kept:]))
