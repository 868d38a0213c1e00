"""What shows who somebody is at the console: random texts, of which only digests are kept. Pure."""

from __future__ import annotations

import hashlib
import hmac


def digest_of(proof: str) -> str:
    """Return what a token or a cookie is kept under: its SHA-256, hex.

    Plain, as these are random texts of 256 bits; a password is hashed otherwise.
    """
    return hashlib.sha256(proof.encode(errors="surrogatepass")).hexdigest()


def csrf_of(cookie: str) -> str:
    """Return what a form of this session carries: only who has the cookie can make it."""
    key = cookie.encode(errors="surrogatepass")
    return hmac.new(key, b"parley console form", hashlib.sha256).hexdigest()
