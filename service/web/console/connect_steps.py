"""The steps of Connect: what each asks for, in which words, and which are whole. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from service.errors import ConnectorError
from service.operate.setup import SetupEntry, SetupState
from service.web.console import paths

SID_PATTERN = "AC[0-9A-Za-z]{32}"


@dataclass(frozen=True, slots=True)
class Ask:
    """How a page asks for a field.

    hint: a sentence, with `code` in backticks. example: shown where nothing is written.
    inputmode: which keys a phone shows; "" for all. limit: characters. missing: a sentence for when
    nothing is written, "" for the usual one.
    """

    label: str
    hint: str
    example: str = ""
    inputmode: str = ""
    limit: int = 500
    missing: str = ""


ASKS: Mapping[str, Ask] = {
    "open_connectors_base_url": Ask(
        "Base address",
        "Up to and including `/elements/api-v2`.",
        "https://api.openconnectors.<region>.ext.hana.ondemand.com/elements/api-v2",
        "url",
        missing="Choose a region, or write the base address of another.",
    ),
    "open_connectors_user_secret": Ask(
        "User secret", "What follows `User` in the Authorization header, up to the comma."
    ),
    "open_connectors_organization_secret": Ask(
        "Organization secret", "What follows `Organization` in the same header."
    ),
    "twilio_account_sid": Ask(
        "Account SID",
        "`AC` and 32 letters or digits.",
        "AC0123456789abcdef0123456789abcdef",
        limit=60,
    ),
    "twilio_auth_token": Ask(
        "Auth Token", "It tells texts of Twilio from others, and is given to the connector."
    ),
    "twilio_auth_token_secondary": Ask(
        "Second auth token", "Texts signed with it are taken as well, while tokens are changed."
    ),
    "twilio_sender": Ask(
        "Sender",
        "Our number with `+` and its country code. A short code or the SID of a messaging service "
        "works too.",
        "+14155550100",
        limit=60,
    ),
    "connector_element": Ask("Connector", ""),
    "instance_name": Ask("Name", "What Open Connectors lists the instance as.", limit=100),
    "instance_tag": Ask(
        "Tag", "The instance is found again by it, so each deployment needs its own.", limit=100
    ),
    "event_signature_key": Ask(
        "Signature key of events",
        "The platform signs its events with it; `twiliov2` needs it. Make one up: "
        "`openssl rand -hex 32`.",
    ),
}
"""By the field's name; the order on a page is the step's."""


@dataclass(frozen=True, slots=True)
class ConnectStep:
    """One step. name: the last part of its path. fields: in the order they are asked for."""

    name: str
    title: str
    fields: tuple[str, ...]

    @property
    def path(self) -> str:
        """Where its page lies."""
        return f"{paths.CONNECT}/{self.name}"


ACCESS = ConnectStep(
    "access",
    "Open Connectors",
    (
        "open_connectors_base_url",
        "open_connectors_user_secret",
        "open_connectors_organization_secret",
    ),
)
TWILIO = ConnectStep(
    "twilio",
    "Twilio",
    (
        "twilio_account_sid",
        "twilio_auth_token",
        "twilio_auth_token_secondary",
        "twilio_sender",
    ),
)
INSTANCE = ConnectStep(
    "instance",
    "Instance",
    ("connector_element", "instance_name", "instance_tag", "event_signature_key"),
)
REVIEW = ConnectStep("review", "Review", ())

STEPS = (ACCESS, TWILIO, INSTANCE, REVIEW)
ASKING = {step.name: step for step in STEPS if step.fields}


@dataclass(frozen=True, slots=True)
class Stage:
    """A step as the list of steps shows it. whole: it, and all before it, lack nothing."""

    step: ConnectStep
    whole: bool
    current: bool


@dataclass(frozen=True, slots=True)
class Asked:
    """A field as a page shows it.

    problem: what is wrong with it, "" when nothing is or nobody has tried yet.
    refusal: what the connector said of it.
    """

    entry: SetupEntry
    ask: Ask
    problem: str
    refusal: ConnectorError | None

    @property
    def wrong(self) -> bool:
        """Whether something is to be put right."""
        return bool(self.problem or self.refusal)


def stages(
    state: SetupState, current: ConnectStep | None, *, refused: bool = False
) -> Sequence[Stage]:
    """Return the steps as they stand. refused: the connector has refused something of `current`."""
    found, so_far = [], True
    for step in STEPS:
        if refused and step is current:
            so_far = False
        if step is REVIEW:
            so_far = so_far and not state.drafted
        so_far = so_far and is_whole(state, step)
        found.append(Stage(step, so_far, step is current))
    return found


def is_whole(state: SetupState, step: ConnectStep) -> bool:
    """Tell whether nothing that a step asks for is missing or wrong."""
    return not any(state.entries[field].problem for field in step.fields)


def first_open(state: SetupState) -> str:
    """Return the path of the first step that lacks something, or of what comes after them."""
    for step in STEPS:
        if not is_whole(state, step):
            return step.path
    return REVIEW.path if state.drafted or not state.complete else paths.CONNECT_DONE


def after(step: ConnectStep) -> ConnectStep:
    """Return the step after this one."""
    return STEPS[STEPS.index(step) + 1]


def step_of(field: str) -> ConnectStep | None:
    """Return the step that asks for a field; None for no field."""
    return next((step for step in STEPS if field in step.fields), None)


def asked(
    state: SetupState,
    step: ConnectStep,
    *,
    tried: bool = False,
    refused: Mapping[str, ConnectorError] | None = None,
) -> Mapping[str, Asked]:
    """Return the fields of a step as its page shows them.

    tried: somebody wanted to go on; what is missing is told then, and not before.
    refused: what the connector said, by field.
    """
    found = {}
    for field in step.fields:
        entry = state.entries[field]
        told = tried or entry.value or entry.kept or entry.fixed
        problem = problem_of(entry) if told else ""
        found[field] = Asked(entry, ASKS[field], problem, (refused or {}).get(field))
    return found


def problem_of(entry: SetupEntry) -> str:
    """Say what is wrong with a field in the words of its page; "" when nothing is."""
    ask = ASKS[entry.field]
    if entry.problem and not (entry.value or entry.kept or entry.fixed):
        known = f"; the connector asks for it as `{entry.key}`" if entry.key else ""
        return ask.missing or f"{ask.label} is missing{known}."
    # Beside its field, a setting needs no name.
    rest = entry.problem.removeprefix(entry.name)
    return entry.problem if rest == entry.problem else f"This{rest}"
