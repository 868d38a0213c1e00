"""Who sent a callback, and what it announces: verified first, then read.

Twilio's callbacks are verified by X-Twilio-Signature: a form for an inbound text, a form with
MessageStatus for the report on a reply, or JSON with its digest in the query. The platform's events
have a rule of their own, see `events`; what all of them announce is the same from there on.

The rules are `core`'s. What this adds is a budget: asking Twilio's own library costs ten times as
much as comparing by ourselves, so a flood of forgeries gets our comparison alone once the budget of
a second is spent. That refuses nothing which the library would let in but for readings of the URL
that no Twilio is known to sign.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from service.core.twilio import forms, json_callback
from service.core.twilio.callback import check_account, is_status, parse_inbound, parse_status
from service.core.twilio.canonical import check_canonical
from service.core.twilio.forms import Pairs
from service.core.twilio.signature import Verifier, covers
from service.errors import SignatureRejected
from service.model import DeliveryStatus, Message
from service.web.door.limits import CpuBudget
from service.web.door.request import JSON, Headers

Arrival = Message | DeliveryStatus
"""What a callback announces."""

LIBRARY_SHARE = 0.05
"""Of one CPU, for asking Twilio's library about what our own comparison does not match: about a
hundred callbacks a second. Genuine ones hardly ever need it."""


@dataclass(frozen=True, slots=True)
class Callback:
    """A callback that has arrived whole.

    query: after the "?", as received. body: raw; of a GET the form is the query.
    """

    method: str
    query: bytes
    body: bytes
    headers: Headers


class Judge:
    """Verifies callbacks and reads them.

    verifier: for the registered URL. account: our AccountSid.
    now: the time a message is received at, aware and UTC.
    """

    def __init__(
        self,
        verifier: Verifier,
        account: str,
        now: Callable[[], datetime],
    ) -> None:
        self._verifier = verifier
        self._account = account
        self._now = now
        self._library = CpuBudget(LIBRARY_SHARE)

    def judge(self, callback: Callback, sent_as: bytes) -> Sequence[Arrival]:
        """Return what a callback announces, at least one thing.

        sent_as: FORM or JSON. Raises CallbackRejected, and a subclass of it for each reason.
        """
        headers = callback.headers
        if sent_as == JSON:
            return self._judge_json(callback.query, callback.body, headers)
        if callback.method == "POST":
            signed_by = headers.signature, headers.signed_with
            return (self.judge_form(callback.query, callback.body, *signed_by),)
        if not self._verifier.could_match(headers.signature, headers.signed_with):
            raise SignatureRejected
        pairs = forms.parse(callback.query)
        self._verify(callback.query, (), headers.signature, headers.signed_with)
        return (self._read_form(pairs),)

    def judge_form(
        self,
        query: bytes,
        body: bytes,
        signature: bytes | None,
        signed_with: bytes | None = None,
    ) -> Arrival:
        """Return what the POST of a form announces. Raises as `judge`."""
        if not self._verifier.could_match(signature, signed_with):
            raise SignatureRejected
        pairs = forms.parse(body)
        # We register no query for a form. One that Twilio was given elsewhere is compared as it
        # was received; a stranger's is not worth the library's time.
        self._verify(query, pairs, signature, signed_with, again=not query)
        return self._read_form(pairs)

    def _verify(
        self,
        query: bytes,
        signed: Pairs,
        signature: bytes | None,
        signed_with: bytes | None,
        *,
        again: bool = True,
    ) -> None:
        verifier = self._verifier
        if verifier.matches(query, signed, signature, signed_with):
            return
        began = time.perf_counter()
        if not again or not self._library.open(began):
            raise SignatureRejected
        let_in = verifier.look_again(query, signed, signature, signed_with)
        self._library.spend(time.perf_counter() - began)
        if not let_in:
            raise SignatureRejected

    def _read_form(self, pairs: Pairs) -> Arrival:
        fields = dict(pairs)
        check_account(fields, self._account)
        check_canonical(pairs, fields)
        return self._parse(fields)

    def _judge_json(self, query: bytes, body: bytes, headers: Headers) -> Sequence[Arrival]:
        self._verify(query, (), headers.signature, headers.signed_with)
        if not covers(query, body):
            raise SignatureRejected
        found = json_callback.read(body)
        for fields in found:
            check_account(fields, self._account)
            check_canonical(tuple(fields.items()), fields)
        return [self._parse(fields) for fields in found]

    def _parse(self, fields: Mapping[str, str]) -> Arrival:
        return parse_status(fields) if is_status(fields) else parse_inbound(fields, self._now())
