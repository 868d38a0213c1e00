"""Who is asking: the `Authorization` header of Open Connectors, and what it opens."""

from __future__ import annotations

from dataclasses import dataclass, field

from service.lab.sandbox.answers import Refused
from service.lab.sandbox.instance import Instance
from service.lab.sandbox.records import Records

UNAUTHORIZED = "Invalid Organization or User secret, or invalid Element token provided"


@dataclass(frozen=True, slots=True)
class Access:
    """The credentials of the one user the sandbox knows, and the instances he has."""

    user_secret: str = field(repr=False)
    organization_secret: str = field(repr=False)
    records: Records = field(repr=False)

    def authorize(self, header: str) -> None:
        """Check `User <secret>, Organization <secret>`. Raises Refused (401)."""
        given = read_credentials(header)
        if not self._is_user(given) or "Organization" not in given:
            raise Refused(401, UNAUTHORIZED)

    def instance(self, header: str, *, even_disabled: bool = False) -> Instance:
        """Find the instance of `User ..., Element <token>`, the organization being optional.

        even_disabled: for what enables it again.
        Raises Refused: 401 for wrong secrets, an unknown token or that of a deleted instance, 403
            for a disabled one.
        """
        given = read_credentials(header)
        instance = self.records.by_token.get(given.get("Element", ""))
        if instance is None or not self._is_user(given):
            raise Refused(401, UNAUTHORIZED)
        if instance.disabled and not even_disabled:
            raise Refused(403, "The element instance is disabled", instance_id=instance.id)
        return instance

    def _is_user(self, given: dict[str, str]) -> bool:
        if self.records.switches.secrets_revoked:
            return False
        return given.get("User") == self.user_secret and (
            given.get("Organization", self.organization_secret) == self.organization_secret
        )


def read_credentials(header: str) -> dict[str, str]:
    """Read `User x, Organization y, Element z`; a secret may hold anything but a comma."""
    words = (part.split(None, 1) for part in header.split(","))
    return {pair[0]: pair[1].strip() for pair in words if len(pair) == 2}
