"""How many SMS a text is sent as. Pure."""

from __future__ import annotations

from dataclasses import dataclass

GSM_BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
"""The default alphabet: one septet each."""

GSM_EXTENDED = frozenset("\f^{}\\[~]|€")
"""The extension table: an escape and a septet, two in all."""

GSM_ONE, GSM_JOINED = 160, 153
UCS2_ONE, UCS2_JOINED = 70, 67
"""Units one SMS holds: alone, and as a part of several, where a header takes 6 bytes."""


@dataclass(frozen=True, slots=True)
class Segments:
    """How a text is sent.

    encoding: "GSM-7" or "UCS-2". units: septets or 16-bit code units. parts: SMS it takes.
    """

    encoding: str
    units: int
    parts: int


def count_segments(body: str) -> Segments:
    """Work out how many SMS parts `body` is sent as.

    body: any code points. An empty one, a picture alone, counts as one part.
    Returns encoding, units used and parts.
    Raises ValueError on lone surrogates, which no SMS can carry.
    Source: 3GPP TS 23.038 (alphabet), 23.040 (joining).
    """
    gsm = all(char in GSM_BASIC or char in GSM_EXTENDED for char in body)
    sizes = (
        [2 if char in GSM_EXTENDED else 1 for char in body]
        if gsm
        else [len(char.encode("utf-16-le")) // 2 for char in body]
    )
    one, joined = (GSM_ONE, GSM_JOINED) if gsm else (UCS2_ONE, UCS2_JOINED)
    units = sum(sizes)
    parts = 1 if units <= one else _parts(sizes, joined)
    return Segments("GSM-7" if gsm else "UCS-2", units, parts)


def _parts(sizes: list[int], room: int) -> int:
    """Fill parts one after the other; a character is never split over two."""
    parts, used = 1, 0
    for size in sizes:
        if used + size > room:
            parts, used = parts + 1, 0
        used += size
    return parts
