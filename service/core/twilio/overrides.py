"""Twilio's connection overrides: how often Twilio itself repeats a callback that failed. Pure.

They ride in the fragment of the registered URL, which Twilio neither requests nor signs.
Source: Twilio, "Webhooks (HTTP callbacks): Connection Overrides".
"""

from __future__ import annotations


def with_overrides(url: str, retries: int, policy: str) -> str:
    """Return the URL to register: `#rc=<retries>&rp=<policy>` is added unless retries is 0.

    url: without a fragment. policy: `all`, or some of `4xx`, `5xx`, `ct` (connection failed) and
        `rt` (no answer in time), with commas.
    """
    return f"{url}#rc={retries}&rp={policy}" if retries else url
