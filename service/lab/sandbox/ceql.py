"""The platform's query language on the message log: `where=DateSent='2026-01-31'`. Pure.

Source: SAP Open Connectors' release notes of the Twilio connectors. From and To can be asked for
since 2.148, a range of DateSent since 2.164; before, they are 400.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date

from service.lab.sandbox.answers import Refused
from service.lab.sandbox.message import Message
from service.lab.sandbox.switches import Ceql

Test = Callable[[Message], bool]

COMPARE: dict[str, Callable[[str, str], bool]] = {
    "=": lambda sent, day: sent == day,
    ">=": lambda sent, day: sent >= day,
    "<=": lambda sent, day: sent <= day,
    ">": lambda sent, day: sent > day,
    "<": lambda sent, day: sent < day,
}
"""Days in ISO 8601 compare as texts."""


def read_where(clause: str, understood: Ceql) -> Test:
    """Read `DateSent>='2026-01-31' and To='+1...'` into a test of a message.

    DateSent: a day, or a moment in ISO 8601 of which the day counts. To, From: equality. Names in
    any case, with or without underscores. understood: how much of it the platform has learnt.
    Raises Refused (400) for what it does not understand: a filter with a mistake is none.
    """
    clause = clause.strip()
    if not clause:
        return lambda _: True
    terms = re.split(r"\s+and\s+", clause, flags=re.IGNORECASE)
    tests = [_read_term(term, understood) for term in terms]
    return lambda message: all(test(message) for test in tests)


def _read_term(term: str, understood: Ceql) -> Test:
    found = re.fullmatch(r"\s*(\w+)\s*(>=|<=|=|>|<)\s*'([^']*)'\s*", term)
    if found is None:
        raise Refused(400, f"The where clause can't be read: {term[:100]}")
    name, operator, value = found[1].lower().replace("_", ""), found[2], found[3]
    if name == "datesent" and (operator == "=" or understood == "2.164"):
        return _of_day(operator, value)
    if name in {"to", "from"} and operator == "=" and understood != "2.147":
        place = 1 if name == "to" else 0
        return lambda message: ends_of(message)[place] == value
    raise Refused(400, f"The where clause is not supported: {found[1]}{operator}")


def _of_day(operator: str, value: str) -> Test:
    day, compare = value[:10], COMPARE[operator]
    try:
        date.fromisoformat(day)
    except ValueError:
        raise Refused(400, f"DateSent in the where clause is no date: {value[:40]}") from None
    return lambda message: compare(message.at[:10], day)


def ends_of(message: Message) -> tuple[str, str]:
    """Tell who sent a message, and to whom."""
    if message.direction == "text":
        return message.theirs, message.ours
    return message.ours, message.theirs
