"""Keeps the setup, sealed: the one in use, and a draft of the next one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from service.core.sealing import Sealer
from service.errors import SettingsError, SetupChanged
from service.store.failures import translated
from service.store.keys import SETUP, SETUP_DRAFT
from service.store.scripts import DROP_DRAFT, KEEP_SETUP, run_alone
from service.store.stored import moment, whole_number

if TYPE_CHECKING:
    from service.store.client import Redis

DRAFT_LIVES = timedelta(days=7)
"""What was typed and left can be gone on with for a week; secrets do not lie about for longer."""

LOST = "type the credentials anew: parley connect, or Connect in the console"


@dataclass(frozen=True, slots=True)
class KeptSetup:
    """A setup.

    values: by the names of `Settings`' fields. at: aware. who: as in the trail.
    problem: why its values can't be told, which are none then; "" where they can.
    """

    version: int
    values: Mapping[str, str] = field(repr=False)
    at: datetime
    who: str
    problem: str = ""


class Setups:
    """Loads and keeps what was typed. Every method raises StoreUnavailable."""

    def __init__(self, client: Redis, sealer: Sealer) -> None:
        self._client = client
        self._sealer = sealer

    async def version(self) -> int:
        """Return the version of the setup in use; 0 where there is none. Cheap."""
        with translated():
            return whole_number(await self._client.hget(SETUP, "version") or b"")

    async def current(self) -> KeptSetup | None:
        """Return the setup in use. Raises SettingsError when no SECRET_KEY opens it."""
        kept = await self._load(SETUP)
        if kept is not None and kept.problem:
            raise SettingsError([kept.problem])
        return kept

    async def current_or_lost(self) -> KeptSetup | None:
        """Return the setup in use, also one that can't be opened any more, to take its place."""
        return await self._load(SETUP)

    async def keep(self, values: Mapping[str, str], *, who: str, after: int) -> int:
        """Keep values as the setup in use from now on; return its version.

        after: the version that they were made from. Raises SetupChanged when that is not in use.
        """
        version = await self._keep(SETUP, after, values, who, 0)
        if version < 0:
            raise SetupChanged("somebody else has changed the setup meanwhile; look at it again")
        return version

    async def draft(self) -> KeptSetup | None:
        """Return what was typed and is not in use yet, also what can't be opened any more."""
        return await self._load(SETUP_DRAFT)

    async def keep_draft(self, values: Mapping[str, str], *, who: str, after: int) -> bool:
        """Keep what was typed, right or wrong, for a while; tell whether it was kept.

        after: the version of the draft it was made from, 0 for none; nothing is kept where that is
        not the present one.
        """
        lives_ms = int(DRAFT_LIVES.total_seconds() * 1000)
        return await self._keep(SETUP_DRAFT, after, values, who, lives_ms) > 0

    async def drop_draft(self, version: int | None = None) -> None:
        """Forget what was typed and not used. version: only if it is this one still."""
        only = "" if version is None else version
        await run_alone(self._client, DROP_DRAFT, (SETUP_DRAFT,), (only,))

    async def _keep(
        self, key: str, after: int, values: Mapping[str, str], who: str, lives_ms: int
    ) -> int:
        sealed = self._sealer.seal(json.dumps(dict(values)))
        return int(
            await run_alone(self._client, KEEP_SETUP, (key,), (after, sealed, who, lives_ms))
        )

    async def _load(self, key: str) -> KeptSetup | None:
        with translated():
            raw = await self._client.hgetall(key)
        if not raw:
            return None
        values, problem = self._open(raw.get(b"sealed", b""))
        return KeptSetup(
            version=whole_number(raw.get(b"version", b"")),
            values=values,
            at=moment(raw.get(b"at", b"")),
            who=raw.get(b"who", b"").decode(errors="replace"),
            problem=problem,
        )

    def _open(self, sealed: bytes) -> tuple[dict[str, str], str]:
        try:
            text = self._sealer.unseal(sealed.decode(errors="replace"), "the setup", LOST)
            return {str(name): str(value) for name, value in json.loads(text).items()}, ""
        except SettingsError as error:
            return {}, str(error)
        except (ValueError, AttributeError):
            return {}, f"the setup in Redis can't be read; {LOST}"
