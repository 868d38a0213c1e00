"""The setup: credentials typed in the console or by `parley connect` instead of in settings.

What is typed is kept as a draft, right or wrong, so that nothing is lost by a mistake, a reload or
a new sign-in. Applied, it is the setup in use: every process takes it within two seconds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from service.connector.provisioning import Provisioner
from service.core.masking import mask_login
from service.core.open_connectors.elements import ELEMENTS, EVENTS
from service.core.open_connectors.plan import Plan
from service.core.sealing import Sealer
from service.errors import (
    ConnectorError,
    ConnectorGone,
    ConnectorUnanswered,
    ConnectorUnauthorized,
    ConnectorUnreachable,
    SettingsError,
    SetupChanged,
    UsageError,
)
from service.operate.audit import note, noted
from service.operate.clients import connector_of
from service.operate.deployment import Deployment, open_store
from service.operate.files import message_template, wanted_instance
from service.settings.forms import CALLBACK_PATH
from service.settings.setup import REQUIRED, SECRET, SETUP, SETUP_FIELDS, Given, GivenEntry
from service.settings.table import Settings
from service.store.audit import Via
from service.store.instances import Instances
from service.store.setups import KeptSetup, Setups

if TYPE_CHECKING:
    from service.connector.client import Connector
    from service.store.client import Redis

ACCESS = SETUP_FIELDS[:3]
"""What it takes to ask the connector anything."""

ADDRESS, *LOGIN = ACCESS

FORMER = "twilio_auth_token_secondary"
"""Where the former auth token stays accepted."""

BOTH_TOKENS = (
    "TWILIO_AUTH_TOKEN_SECONDARY is typed beside a new TWILIO_AUTH_TOKEN, and the former one stays "
    "accepted in its place; apply the new one first, or parley connect --discard"
)

DRAFT = "draft"
"""Source of what was typed and is not in use yet."""

REFUSED_BY_TWILIO = {20003, 20008, 20404}
"""Twilio's codes for an account or a token that it does not know. Source: Twilio's error codes."""


@dataclass(frozen=True, slots=True)
class SetupEntry:
    """One entry of the setup, as it may be shown.

    name: of the setting. key: the configuration key at the connector that it fills, "" for none.
    value: as it was typed, right or wrong; "" for a secret. kept: a secret that was typed, and is
    kept sealed. source: "setup", "draft", "default", "" for nowhere, or where it is given else.
    fixed: given elsewhere, so that it can't be typed. problem: a sentence about what is wrong and
    how it is mended, "" when nothing is. means: what it is.
    """

    name: str
    field: str
    key: str
    value: str = dataclasses.field(repr=False)
    kept: bool
    source: str
    fixed: bool
    required: bool
    secret: bool
    problem: str
    means: str


@dataclass(frozen=True, slots=True)
class SetupState:
    """How the setup stands.

    version: of the one in use, 0 for none. at: when it was applied. drafted: something was typed
    that is not in use. complete: there is all that it takes, and nothing is wrong.
    callback_url: what will be registered for inbound texts. element: the connector chosen.
    seen: names this very state, for `apply`; no part of it can be read from that.
    problem: why nothing of the one in use can be told, "" where it can.
    """

    version: int
    at: datetime | None
    entries: Mapping[str, SetupEntry]
    drafted: bool
    complete: bool
    callback_url: str
    element: str
    seen: str
    problem: str


class Setup:
    """What can be seen of the setup of a deployment, and done with it.

    redis: the deployment's. given: what its settings say besides.
    Every method raises StoreUnavailable. What no SECRET_KEY opens any more counts as not typed, and
    what is typed takes its place.
    """

    def __init__(self, redis: Redis, given: Given) -> None:
        self._redis = redis
        self._given = given
        self._sealer = Sealer(given.partial().secret_keys)
        self._setups = Setups(redis, self._sealer)

    async def look(self) -> SetupState:
        """Tell how it stands: what was typed, over what is in use, under what is given else."""
        kept, draft = await self._setups.current_or_lost(), await self._setups.draft()
        return self._state(kept, draft)

    async def type(self, values: Mapping[str, str], *, who: str) -> SetupState:
        """Keep what somebody typed as a draft, and tell how that stands.

        values: by field. A blank secret stays as it was, unless it is one that can be done without
        and was wrong; another blank field is taken out; what is no field, or fixed, is left alone.
        Whoever changes the connector's address types its secrets with it, or anew: those in use are
        for the address that they were typed for.
        """
        while True:
            kept, draft = await self._setups.current_or_lost(), await self._setups.draft()
            before = _latest(kept, draft)
            typed = self._typed(before, values)
            if kept is not None and typed.get(ADDRESS) != before.get(ADDRESS):
                for each in LOGIN:
                    blank = not values.get(each, "").strip()
                    if blank and typed.get(each) == kept.values.get(each):
                        typed.pop(each, None)
            if typed == before:
                return self._state(kept, draft)
            # Somebody else may type at the same time: what they did stays.
            if await self._setups.keep_draft(typed, who=who, after=draft.version if draft else 0):
                return self._state(kept, await self._setups.draft())

    async def discard(self, *, who: str, via: Via) -> None:
        """Forget what was typed and is not in use."""
        await self._setups.drop_draft()
        await note(self._redis, who=who, via=via, what="connect --discard")

    async def check_access(self) -> str:
        """Ask the connector whether it takes the secrets typed; returns a sentence for people.

        Raises SettingsError for what is missing or wrong, ConnectorError.
        """
        values = await self._values()
        entries = self._entries(values)
        wrong = [
            f"{each.upper()} {entries[each].problem}" for each in ACCESS if entries[each].problem
        ]
        if wrong:
            raise SettingsError(wrong)
        asked = (*ACCESS, *(each for each in ("instance_tag",) if not entries[each].problem))
        settings = self._given.partial({each: values.get(each, "") for each in asked})
        async with _connector(settings) as connector:
            found = await connector.find_instances(settings.instance_tag)
        count = {0: "no instance carries", 1: "one instance carries"}.get(
            len(found), f"{len(found)} instances carry"
        )
        return f"Open Connectors takes these secrets; {count} the tag {settings.instance_tag}."

    async def plan(self) -> Plan:
        """Compare what the connector has with what it is to have; changes nothing.

        Raises SettingsError for what is missing or wrong, ConnectorError.
        """
        return await self._plan(await self._values())

    async def apply(self, *, who: str, via: Via, seen: str | None = None) -> int:
        """Use what was typed from now on; returns the version it is.

        seen: of the state that was shown; raises SetupChanged where that is not the present one.

        It is planned once more before, so that secrets that the connector refuses never take the
        place of those in use. A new auth token leaves the one before accepted until
        `retire_token`. Raises SettingsError, ConnectorError, SetupChanged.
        """
        kept, draft = await self._setups.current_or_lost(), await self._setups.draft()
        if seen not in {None, _seen(kept, draft)}:
            raise SetupChanged(
                "somebody has typed something else meanwhile; look at the plan again"
            )
        values = _latest(kept, draft)
        before = kept.values if kept else {}
        former = before.get("twilio_auth_token", "")
        token = values.get("twilio_auth_token", "")
        if former and token and former != token:
            if values.get(FORMER, former) not in {former, before.get(FORMER)}:
                raise SettingsError([BOTH_TOKENS])
            values[FORMER] = former
        elif FORMER in before:
            values.setdefault(FORMER, before[FORMER])
        changed = [each.upper() for each in SETUP_FIELDS if values.get(each) != before.get(each)]
        about = ", ".join(changed) or "nothing new"
        async with noted(self._redis, who=who, via=via, what="connect", about=about) as act:
            plan = await self._plan(values)
            version = await self._setups.keep(values, who=who, after=kept.version if kept else 0)
            if draft is not None:
                await self._setups.drop_draft(draft.version)
            act.about = f"setup {version}: {about}; {plan.summary()}"
        return version

    async def retire_token(self, *, who: str, via: Via) -> int:
        """Accept the former auth token no more; returns the version of the setup.

        What is typed and not in use would bring it back, so it is taken out there as well. Raises
        UsageError where the setup has none, SetupChanged.
        """
        kept = await self._setups.current()
        if kept is None or FORMER not in kept.values:
            raise UsageError("the setup has no former auth token")
        values = dict(kept.values)
        retired = values.pop(FORMER)
        version = await self._setups.keep(values, who=who, after=kept.version)
        while (draft := await self._setups.draft()) and draft.values.get(FORMER) == retired:
            rest = {each: value for each, value in draft.values.items() if each != FORMER}
            await self._setups.keep_draft(rest, who=draft.who, after=draft.version)
        about = f"setup {version}"
        await note(self._redis, who=who, via=via, what="connect --retire-token", about=about)
        return version

    async def rekey(self, *, who: str) -> None:
        """Seal what is kept with the first SECRET_KEY."""
        if kept := await self._setups.current():
            await self._setups.keep(kept.values, who=who, after=kept.version)
        draft = await self._setups.draft()
        if draft is not None and not draft.problem:
            await self._setups.keep_draft(draft.values, who=who, after=draft.version)

    async def _values(self) -> dict[str, str]:
        return _latest(await self._setups.current_or_lost(), await self._setups.draft())

    def _typed(self, before: Mapping[str, str], values: Mapping[str, str]) -> dict[str, str]:
        """Return what there is once somebody has typed these values over those of before."""
        entries, fixed, typed = self._given.entries(before), self._given.fixed(), dict(before)
        for each in SETUP_FIELDS:
            if each not in values or each in fixed:
                continue
            dropped = each not in SECRET or (each not in REQUIRED and bool(entries[each].problem))
            if value := values[each].strip():
                typed[each] = value
            elif dropped:
                typed.pop(each, None)
        return typed

    def _entries(self, values: Mapping[str, str]) -> Mapping[str, GivenEntry]:
        """Return what is known of each entry; no address is typed for secrets of settings."""
        entries = dict(self._given.entries(values))
        given = [each.upper() for each in LOGIN if entries[each].fixed]
        address = entries[ADDRESS]
        if given and address.source == SETUP and not address.problem:
            problem = f"goes with {' and '.join(given)}, so it is set where they are, not typed"
            entries[ADDRESS] = dataclasses.replace(address, problem=problem)
        return entries

    async def _plan(self, values: Mapping[str, str]) -> Plan:
        if problem := self._entries(values)[ADDRESS].problem:
            raise SettingsError([f"{ADDRESS.upper()} {problem}"])
        settings = self._given.settings(values)
        wanted = wanted_instance(settings)
        async with _connector(settings) as connector:
            instances = Instances(self._redis, self._sealer)
            return await Provisioner(connector, instances, self._sealer, wanted).plan()

    def _state(self, kept: KeptSetup | None, draft: KeptSetup | None) -> SetupState:
        in_use = kept.values if kept else {}
        values = _latest(kept, draft)
        given = self._entries(values)
        element = given["connector_element"].value.strip().lower()
        keys = _keys(element)
        entries = {}
        for each in SETUP_FIELDS:
            found = given[each]
            typed = found.source == SETUP
            new = typed and values.get(each) != in_use.get(each)
            shown = "" if each in SECRET else found.value
            entries[each] = SetupEntry(
                name=each.upper(),
                field=each,
                key=keys.get(each, ""),
                value=shown,
                kept=typed and each in SECRET,
                source=DRAFT if new else found.source,
                fixed=found.fixed,
                required=each in REQUIRED,
                secret=each in SECRET,
                problem=f"{each.upper()} {found.problem}." if found.problem else "",
                means=Settings.model_fields[each].description or "",
            )
        return SetupState(
            version=kept.version if kept else 0,
            at=kept.at if kept else None,
            entries=entries,
            drafted=values != in_use,
            complete=not any(each.problem for each in entries.values()),
            callback_url=mask_login(self._given.partial().public_url + CALLBACK_PATH),
            element=element,
            seen=_seen(kept, draft),
            problem=kept.problem if kept else "",
        )


def field_of(error: ConnectorError, element: str = "twilio") -> str:
    """Tell which field of the setup an error of the connector concerns; "" when none is known."""
    said = f"{error.message} {error.provider_message or ''}"
    for each, key in sorted(_keys(element).items(), key=lambda item: -len(item[1])):
        if len(key) > len("password") and key in said:
            return each
    if error.code in REFUSED_BY_TWILIO:
        return "twilio_auth_token"
    if isinstance(error, ConnectorUnauthorized):
        return "open_connectors_user_secret"
    if isinstance(error, ConnectorUnreachable | ConnectorUnanswered | ConnectorGone):
        return "open_connectors_base_url"
    return ""


def _latest(kept: KeptSetup | None, draft: KeptSetup | None) -> dict[str, str]:
    """Return what was typed last, of what can be opened: the draft, or else what is in use."""
    for each in (draft, kept):
        if each is not None and not each.problem:
            return dict(each.values)
    return {}


def _seen(kept: KeptSetup | None, draft: KeptSetup | None) -> str:
    """Name a state: by the version in use, and by when the draft was typed."""
    typed = f"{draft.at.timestamp():.3f}/{draft.version}" if draft else ""
    return f"{kept.version if kept else 0}/{typed}"


@asynccontextmanager
async def _connector(settings: Settings) -> AsyncIterator[Connector]:
    connector = connector_of(settings, message_template(settings))
    try:
        yield connector
    finally:
        await connector.aclose()


def _keys(element: str) -> Mapping[str, str]:
    """Return the configuration key that each field fills at the connector."""
    required = ELEMENTS.get(element, ELEMENTS["twilio"]).required
    keys = {setting.lower(): key for key, setting in required.items() if setting}
    if element == "twiliov2":
        keys["event_signature_key"] = f"{EVENTS}signature.key"
    return {
        **keys,
        "connector_element": "element.key",
        "instance_name": "name",
        "instance_tag": "tags",
    }


async def reseal(deployment: Deployment, *, who: str) -> None:
    """Seal the setup of a deployment with its first SECRET_KEY. Raises as `Setup`'s methods."""
    if deployment.given is not None:
        async with open_store(deployment) as (client, _):
            await Setup(client, deployment.given).rekey(who=who)
