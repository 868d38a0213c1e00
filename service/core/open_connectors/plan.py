"""What provisioning has to do: what is wanted against what the connector has. Pure.

Names and tags are compared as the platform keeps them, without HTML. Secrets read back as stars,
which say nothing and are never written back: whether one has changed is told by a keyed fingerprint
of what was written last.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from service.core.masking import MASK, mask_login
from service.core.open_connectors.elements import SECRET_ENTRIES, is_secret
from service.core.open_connectors.wire import InstanceAnswer, secrets_of

ChangeKind = Literal["create", "adopt", "take", "enable", "update", "token"]
"""What a step does: make an instance, adopt one that carries our tag, take over one that somebody
made elsewhere, switch it on again, write what differs, take the token that it has now."""


@dataclass(frozen=True, slots=True)
class Change:
    """One entry that differs. old, new: as shown; a secret's value is in neither, nor a login."""

    entry: str
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.entry}: {self.old} -> {self.new}"


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do. instance: the connector's id of it, "" for one that is to be made."""

    kind: ChangeKind
    instance: str
    changes: tuple[Change, ...] = ()

    def lines(self) -> list[str]:
        """Say it in a line for each change; no secrets."""
        match self.kind:
            case "create":
                return ["create an instance", *(f"  {change}" for change in self.changes)]
            case "adopt":
                return [f"adopt instance {self.instance}, which carries our tag"]
            case "take":
                return [f"take over instance {self.instance}, with the token it has"]
            case "enable":
                return [f"enable instance {self.instance}"]
            case "token":
                return [f"take the new token of instance {self.instance}"]
            case "update":
                head = f"update instance {self.instance}"
                return [head, *(f"  {change}" for change in self.changes)]

    def brief(self) -> str:
        """Say it in one line, with the entries that differ and none of their values."""
        head = self.lines()[0]
        names = ", ".join(change.entry for change in self.changes)
        return f"{head}: {names}" if names and self.kind == "update" else head


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps in the order they are done; none when the connector has what is wanted."""

    steps: tuple[Step, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.steps)

    @property
    def stops_replies(self) -> bool:
        """Whether no reply can leave before: the instance is gone, off, or has another token."""
        return any(step.kind != "update" for step in self.steps)

    def lines(self) -> list[str]:
        """Say it for people, a line each."""
        return [line for step in self.steps for line in step.lines()]

    def brief(self) -> str:
        """Say it in one line without any value, as what is kept for a while is to be said."""
        return "; ".join(step.brief() for step in self.steps)

    def summary(self) -> str:
        """Say it in one line."""
        return "; ".join(line.strip() for line in self.lines())


def make_plan(
    wanted: Mapping[str, Any],
    found: InstanceAnswer | None,
    *,
    adopted: bool,
    token: str,
    secrets_known: bool,
    rest_known: bool,
) -> Plan:
    """Compare.

    wanted: body of POST /instances, filled. found: the instance as the connector describes it, None
        if there is none to go on with. adopted: it is not the one we kept, but carries our tag.
    token: the instance token we kept, "" without one.
    secrets_known, rest_known: what was written last, the secrets and the rest, is what is wanted.
    """
    if found is None:
        known = secrets_of(wanted)
        entries = [
            Change(key, "(none)", _shown(str(value), secret=is_secret(key, str(value), known)))
            for key, value in wanted["configuration"].items()
        ]
        return Plan((Step("create", "", tuple(entries)),))
    steps = []
    if adopted:
        steps.append(Step("adopt", found.id))
    elif found.token and found.token != token:
        steps.append(Step("token", found.id))
    if found.disabled:
        steps.append(Step("enable", found.id))
    changes = tuple(
        _changes(
            wanted,
            found,
            secrets_known=secrets_known and not adopted,
            rest_known=rest_known and not adopted,
        )
    )
    if changes:
        steps.append(Step("update", found.id, changes))
    return Plan(tuple(steps))


def plan_takeover(wanted: Mapping[str, Any], found: InstanceAnswer) -> Plan:
    """Plan to use an instance that somebody made elsewhere: everything of ours is written to it.

    found: as it describes itself, and one that `why_not_taken` has nothing against.
    """
    plan = make_plan(wanted, found, adopted=True, token="", secrets_known=False, rest_known=False)
    first, *others = plan.steps
    return Plan((replace(first, kind="take"), *others))


def why_not_taken(wanted: Mapping[str, Any], found: InstanceAnswer) -> str:
    """Say why an instance can't be taken over; "" if it can.

    Of another account it would answer texts of people who wrote to somebody else.
    """
    if found.element != _element(wanted):
        return f"it is of the connector {found.element or '(not told)'}, not {_element(wanted)}"
    for ours, theirs in _accounts(wanted, found):
        if theirs not in {ours, ""}:
            return f"it is of another Twilio account, {theirs}"
    if not found.token:
        return "Open Connectors does not tell its token"
    return ""


def tags_without_ours(wanted: Mapping[str, Any], found: Sequence[str]) -> list[str]:
    """Return the tags of an instance that is ours no longer."""
    ours = {sanitise(str(tag)) for tag in wanted.get("tags") or ()}
    return [tag for tag in found if sanitise(tag) not in ours]


def account_of(wanted: Mapping[str, Any], found: InstanceAnswer) -> str:
    """Return the account that an instance says it is of, "" where it does not tell."""
    return next((theirs for _, theirs in _accounts(wanted, found)), "")


def wanted_tags(wanted: Mapping[str, Any], found: Sequence[str]) -> list[str]:
    """Return our tags and behind them those that somebody else put there."""
    ours = [str(tag) for tag in wanted.get("tags") or ()]
    kept = {sanitise(tag) for tag in ours}
    return [*ours, *(tag for tag in found if sanitise(tag) not in kept)]


def fits(wanted: Mapping[str, Any], candidate: InstanceAnswer) -> bool:
    """Tell whether an instance may be taken for ours.

    candidate: as it describes itself, not as a list does. It says that it carries our tag, is of
        the same connector and of the same account, and tells a token: without one it is no use.
    """
    return (
        bool(candidate.token)
        and carries_tag(wanted, candidate)
        and candidate.element == _element(wanted)
        and all(theirs == ours for ours, theirs in _accounts(wanted, candidate))
    )


def may_fit(wanted: Mapping[str, Any], listed: InstanceAnswer) -> bool:
    """Tell whether an instance in a list is worth asking about: nothing it tells speaks against it.

    A row may tell less than the instance itself, and the list may be of everybody's instances.
    """
    return (
        (not listed.tags or carries_tag(wanted, listed))
        and listed.element in {_element(wanted), ""}
        and all(theirs in {ours, ""} for ours, theirs in _accounts(wanted, listed))
    )


def carries_tag(wanted: Mapping[str, Any], candidate: InstanceAnswer) -> bool:
    """Tell whether an instance says that it carries one of our tags."""
    ours = {sanitise(str(tag)) for tag in wanted.get("tags") or ()}
    return not ours.isdisjoint(map(sanitise, candidate.tags))


def sanitise(text: str) -> str:
    """Return a name or tag as the platform keeps it: without HTML."""
    return re.sub(r"<[^>]*>", "", text).strip()


def _element(wanted: Mapping[str, Any]) -> str:
    return str(wanted["element"]["key"])


def _accounts(wanted: Mapping[str, Any], candidate: InstanceAnswer) -> Sequence[tuple[str, str]]:
    """Return our account and the candidate's, "" where it does not tell."""
    return [
        (str(value), candidate.configuration.get(key, ""))
        for key, value in wanted["configuration"].items()
        if key.endswith(".account") or key == "username"
    ]


def _changes(
    wanted: Mapping[str, Any], found: InstanceAnswer, *, secrets_known: bool, rest_known: bool
) -> Sequence[Change]:
    changes = []
    known = secrets_of(wanted)
    name = str(wanted["name"])
    if sanitise(found.name) != sanitise(name):
        changes.append(Change("name", repr(found.name), repr(name)))
    here = {sanitise(tag) for tag in found.tags}
    missing = [str(tag) for tag in wanted.get("tags") or () if sanitise(str(tag)) not in here]
    if missing:
        changes.append(Change("tags", repr(list(found.tags)), repr([*found.tags, *missing])))
    for key, value in wanted["configuration"].items():
        new, old = str(value), found.configuration.get(key)
        # The platform may hide more than we know to be secret: entries of an operator's own.
        hidden = bool(old) and set(old or "") == {"*"}
        # A value that reads as stars, or is not told at all, is known by its fingerprint alone.
        if key in SECRET_ENTRIES:
            same = secrets_known
        elif hidden or old is None:
            same = rest_known
        else:
            same = old == new
        if not same:
            secret = hidden or any(is_secret(key, each, known) for each in (old or "", new))
            old = _shown(old or "(not told)", secret=secret)
            changes.append(Change(key, old, _shown(new, secret=secret)))
    return changes


def _shown(value: str, *, secret: bool) -> str:
    return MASK if secret else repr(mask_login(value))
