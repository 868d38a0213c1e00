"""Whom the phones text: our number, and what the service's operator has told of it."""

from __future__ import annotations

from typing import Annotated

import msgspec

Line = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class Service(msgspec.Struct, forbid_unknown_fields=True):
    """What the sandbox can't know of the service by itself.

    texts: worth sending it, for a phone that has sent none. also: what else its routes take, in
    words. looks_every_s: pause between its looks at its instance, None where nobody said.
    """

    texts: Annotated[list[Line], msgspec.Meta(max_length=20)] = []
    also: Annotated[list[Line], msgspec.Meta(max_length=20)] = []
    looks_every_s: Annotated[float, msgspec.Meta(gt=0)] | None = None


class Standing(msgspec.Struct, frozen=True):
    """Whether a service can be texted.

    our_number: None while there is no instance. gone_at: when the last one was deleted, ISO 8601
    in UTC; "" while there is one, or never was.
    """

    our_number: str | None
    gone_at: str
    service: Service
