"""Instances at the connector that are to be ours: those that carry our tag, those made elsewhere.

The latter are made in the pages of Open Connectors, and taken over when somebody says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import structlog

from service.connector.client import Connector
from service.connector.formulas import Formulas
from service.core.masking import MASK, mask_login
from service.core.open_connectors.elements import element_of, is_secret
from service.core.open_connectors.plan import (
    Plan,
    account_of,
    carries_tag,
    fits,
    may_fit,
    plan_takeover,
    sanitise,
    tags_without_ours,
    why_not_taken,
)
from service.core.open_connectors.wire import InstanceAnswer, read_instances, secrets_of
from service.errors import ConnectorError, ConnectorGone, UsageError
from service.model import Instance

log = structlog.get_logger()

ASKED_LIMIT = 50
"""Instances that are asked what they are, each a request; the newest ones, of those there are."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An instance of our connector that may be taken over, as it may be shown.

    account, callback_url: "" where it does not tell. ours: it is the one in use.
    why_not: a reason why it can't be taken over, "" if it can.
    """

    id: str
    name: str
    tags: tuple[str, ...]
    disabled: bool
    account: str
    callback_url: str
    ours: bool
    why_not: str


@dataclass(frozen=True, slots=True)
class Takeover:
    """What was done. former: id of the instance that was ours before, "" without one.

    untagged: our tag is off the former one, so that nothing takes it for ours.
    """

    instance: Instance
    former: str
    untagged: bool
    formulas: Formulas


async def find_adoptable(connector: Connector, wanted: Mapping[str, Any]) -> InstanceAnswer | None:
    """Look for ours before creating: Redis may be new, or the answer to a POST was lost.

    The platform may ignore the tag it is asked for, so each is asked what it is itself.
    """
    for tag in wanted.get("tags") or ():
        listed = await connector.find_instances(str(tag))
        asked = [
            await connector.get_instance(each.id) if may_fit(wanted, each) else each
            for each in listed
        ]
        tagged = [each for each in asked if each is not None and carries_tag(wanted, each)]
        fitting = [each for each in tagged if fits(wanted, each)]
        # The newest: its token is the likeliest to be in use.
        chosen = max(fitting, key=lambda each: (len(each.id), each.id), default=None)
        others = [each.id for each in tagged if each is not chosen]
        if others:
            log.warning(
                "the connector has other instances with our tag; remove what is not in use",
                tag=tag,
                instances=others,
            )
        if chosen is not None:
            return chosen
    return None


async def find_takeable(
    connector: Connector, wanted: Mapping[str, Any], id_: str, stored: Instance | None
) -> tuple[InstanceAnswer, Plan]:
    """Find an instance that can be taken over, and plan it.

    stored: the one in use. Raises UsageError for one that can't be taken, ConnectorError.
    """
    if stored is not None and stored.id == id_:
        raise UsageError(f"instance {id_} is ours already; see `parley connector plan`")
    found = await connector.get_instance(id_)
    if found is None:
        raise UsageError(f"there is no instance {id_} at the connector")
    if reason := why_not_taken(wanted, found):
        raise UsageError(f"instance {id_} can't be taken over: {reason}")
    connector.keep_private(found.token)
    return found, plan_takeover(wanted, found)


async def list_candidates(
    connector: Connector, wanted: Mapping[str, Any], ours: str
) -> list[Candidate]:
    """GET /elements/{key}/instances, and of each what it says itself; the newest first.

    wanted: body of POST /instances. ours: id of the instance in use, "" without one. Raises
        ConnectorError.
    """
    key = str(wanted["element"]["key"])
    try:
        listed = read_instances(
            await connector.call_platform("GET", f"/elements/{quote(key, safe='')}/instances")
        )
    except ConnectorGone:  # How a list without rows may be answered.
        return []
    newest = sorted(listed, key=lambda each: (len(each.id), each.id), reverse=True)
    asked = [await connector.get_instance(each.id) for each in newest[:ASKED_LIMIT]]
    return [candidate_of(wanted, each, ours) for each in asked if each is not None]


def candidate_of(wanted: Mapping[str, Any], found: InstanceAnswer, ours: str) -> Candidate:
    """Describe an instance for people."""
    entry = element_of(wanted).callback_url
    url = found.configuration.get(entry, "")
    hidden = is_secret(entry, url, secrets_of(wanted))
    return Candidate(
        id=found.id,
        name=sanitise(found.name),
        tags=found.tags,
        disabled=found.disabled,
        account=account_of(wanted, found),
        callback_url=MASK if hidden else mask_login(url),
        ours=found.id == ours,
        why_not=why_not_taken(wanted, found),
    )


async def let_go(connector: Connector, wanted: Mapping[str, Any], former: str) -> bool:
    """Take our tag off an instance, so that an empty Redis does not adopt it; False if it stays.

    It is done last, when the other one is in use: what fails here is told and undoes nothing.
    """
    try:
        found = await connector.get_instance(former)
        if found is None:
            return True
        tags: Sequence[str] = tags_without_ours(wanted, found.tags)
        if len(tags) < len(found.tags):
            path = f"/instances/{quote(former, safe='')}"
            await connector.call_platform("PATCH", path, {"tags": tags})
    except ConnectorError as error:
        log.warning("the former instance keeps our tag", instance=former, error=str(error))
        return False
    log.info("the former instance is left at the connector, without our tag", instance=former)
    return True
