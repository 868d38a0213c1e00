"""What crossed the wire: a row for each request; it and its answer in full, secrets masked."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from service.lab.sandbox.elements import ELEMENTS

EXCHANGES_KEPT = 500
"""The newest; with the bound of a body that is at most 10 MB."""

ROWS_SHOWN = 200
"""Rows in one answer: as many as the page draws."""

BODY_KEPT_BYTES = 10_000
"""Of each body; the rest is told by its length."""

MASK = "********"

SECRET_FIELDS = frozenset({"token"}).union(*(each.secret for each in ELEMENTS.values()))
"""Fields of JSON whose values are secrets: the instance token, and the entries that read back
masked."""

WRITTEN_SECRET = SECRET_FIELDS | {"propertyValue"}
"""In requests also the value of a single entry, which does not say whose it is."""

ADDRESS_FIELDS = frozenset({"propertyValue", "StatusCallback"}).union(
    each.callback_url for each in ELEMENTS.values()
)
"""Fields that hold a callback's address, whose query is for who knows it."""

CREDENTIAL = re.compile(r"\b(User|Organization|Element) [^,]+")
USERINFO = re.compile(r"(://)[^/@\s\"]+@")

RawHeaders = Mapping[str, str] | Mapping[bytes, bytes] | Iterable[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request and its answer as they crossed, secrets in the clear; no answer: both empty."""

    request_headers: RawHeaders = field(repr=False)
    request_body: bytes = field(repr=False)
    answer_headers: RawHeaders = field(default=(), repr=False)
    answer_body: bytes = field(default=b"", repr=False)


@dataclass(slots=True)
class _Kept:
    row: dict[str, Any]
    exchange: Exchange
    lengths: tuple[int, int]


class WireLog:
    """The newest exchanges. A row's `id` is its place among all of them, from 1."""

    def __init__(self) -> None:
        self._kept: deque[_Kept] = deque(maxlen=EXCHANGES_KEPT)
        self._last = 0

    def add(self, row: Mapping[str, Any], exchange: Exchange) -> dict[str, Any]:
        """Keep an exchange; returns its row with the id it was given."""
        self._last += 1
        numbered = {"id": self._last, **row}
        sent, answered = exchange.request_body, exchange.answer_body
        # Cut now, so that a load test can't fill the memory; read and masked when somebody looks.
        cut = Exchange(
            exchange.request_headers,
            sent[:BODY_KEPT_BYTES],
            exchange.answer_headers,
            answered[:BODY_KEPT_BYTES],
        )
        self._kept.append(_Kept(numbered, cut, (len(sent), len(answered))))
        return numbered

    def rows(self) -> list[dict[str, Any]]:
        """Return the newest rows, oldest first."""
        return [each.row for each in self._kept][-ROWS_SHOWN:]

    def show(self, id_: int) -> dict[str, Any] | None:
        """Describe an exchange for a reader, or None once it is forgotten.

        Its `request` and `answer` have `headers` (pairs), `body` (text), and `length` in bytes,
        which is more than the body's where that was cut.
        """
        for each in reversed(self._kept):
            if each.row["id"] == id_:
                sent, got = each.exchange, each.lengths
                request = _show(sent.request_headers, sent.request_body, got[0], WRITTEN_SECRET)
                answer = _show(sent.answer_headers, sent.answer_body, got[1], SECRET_FIELDS)
                return each.row | {"request": request, "answer": answer}
        return None


def _show(
    headers: RawHeaders, body: bytes, length: int, secret_fields: Iterable[str]
) -> dict[str, Any]:
    text = mask_fields(body.decode(errors="replace"), secret_fields)
    return {"headers": [_masked(*pair) for pair in _pairs(headers)], "body": text, "length": length}


def mask_fields(text: str, names: Iterable[str]) -> str:
    """Mask what JSON text gives to fields of these names, and what is secret in addresses.

    By their spelling, not by parsing: a body that was cut is no JSON any more.
    """
    wanted = "|".join(map(re.escape, sorted(names)))
    shown = re.sub(rf'("(?:{wanted})"\s*:\s*")(?:[^"\\]|\\.)*', rf"\g<1>{MASK}", text)
    addresses = "|".join(map(re.escape, sorted(ADDRESS_FIELDS)))
    shown = re.sub(rf'("(?:{addresses})"\s*:\s*"[^"?]*\?)[^"#]*', rf"\g<1>{MASK}", shown)
    return USERINFO.sub(rf"\g<1>{MASK}@", shown)


def _pairs(headers: RawHeaders) -> Sequence[tuple[str, str]]:
    items = headers.items() if isinstance(headers, Mapping) else headers
    return [(_text(name), _text(value)) for name, value in items]


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _masked(name: str, value: str) -> tuple[str, str]:
    if name.lower() != "authorization":
        return name, value
    shown, found = CREDENTIAL.subn(rf"\1 {MASK}", value)
    return name, shown if found else MASK
