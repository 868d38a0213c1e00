"""Why a callback's signature does not match."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from service.core.twilio.signature_hints import Explanation, explain


def explain_signature(
    url: str,
    body: bytes,
    signature: str,
    tokens: Sequence[str],
    *,
    signed_with: str | None,
    shared_keys: Mapping[str, str],
) -> Explanation:
    """Tell why a signature does not match; see `service.core.twilio.signature_hints.explain`."""
    return explain(url, body, signature, tokens, signed_with=signed_with, shared_keys=shared_keys)
