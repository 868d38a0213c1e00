"""Seals the instance token for Redis, and fingerprints secrets so that a change is noticed. Pure.

Keys are derived from SECRET_KEY by HKDF-SHA256, one per purpose, so that SECRET_KEY may be any
text. Sealing is Fernet (AES-128-CBC with HMAC-SHA256). Source: RFC 5869; the Fernet specification.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from service.errors import SettingsError


class Sealer:
    """Seals with the first key, unseals with any of them.

    keys: texts of 32 characters or more, newest first; at least one.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        self._fernet = MultiFernet(
            [Fernet(base64.urlsafe_b64encode(_derive(key, b"parley sealing"))) for key in keys]
        )
        self._fingerprint_keys = [_derive(key, b"parley fingerprint") for key in keys]

    def seal(self, text: str) -> str:
        """Return `text` encrypted, as ASCII."""
        return self._fernet.encrypt(text.encode()).decode()

    def unseal(
        self,
        sealed: str,
        what: str = "the instance token",
        lost: str = "parley connector forget",
    ) -> str:
        """Return what `seal` was given. Raises SettingsError when no key opens it.

        what: it is, and lost: what to do where the key is lost, for the error.
        """
        try:
            return self._fernet.decrypt(sealed.encode()).decode()
        except InvalidToken as error:
            raise SettingsError(
                [
                    (
                        f"SECRET_KEY is not the one {what} in Redis was sealed with; "
                        "put the former key back behind the new one: SECRET_KEY=new,former; if it "
                        f"is lost: {lost}"
                    )
                ]
            ) from error

    def fingerprint(self, text: str) -> str:
        """Return a keyed digest (HMAC-SHA256, hex): it changes with `text` and tells nothing."""
        return self.fingerprints(text)[0]

    def fingerprints(self, text: str) -> tuple[str, ...]:
        """Return the digest by every key, the first one's first."""
        return tuple(
            hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
            for key in self._fingerprint_keys
        )


def _derive(key: str, purpose: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=purpose).derive(key.encode())
