"""The operator's JSON files: which one is meant, read and filled from the settings."""

from __future__ import annotations

from pathlib import Path

from service.connector.client import MESSAGE_NAMES
from service.connector.provisioning import INSTANCE_NAMES, Wanted
from service.core.open_connectors.elements import ELEMENTS
from service.core.open_connectors.templates import Template
from service.core.twilio.overrides import with_overrides
from service.errors import SettingsError
from service.settings.forms import CALLBACK_PATH
from service.settings.sources import packaged_config
from service.settings.table import Settings


def wanted_instance(settings: Settings) -> Wanted:
    """Fill the instance's file. Raises SettingsError naming the file and what is wrong in it."""
    path = chosen_file(settings, "instance")
    template = _template(path, INSTANCE_NAMES)
    key = settings.connector_element
    callback_url = settings.public_url + CALLBACK_PATH
    if ELEMENTS[key].calls_directly:
        callback_url = with_overrides(
            callback_url, settings.callback_retries, settings.callback_retry_policy
        )
    values = {
        "TWILIO_ACCOUNT_SID": settings.twilio_account_sid,
        "TWILIO_AUTH_TOKEN": settings.twilio_auth_token.get_secret_value(),
        "TWILIO_SENDER": settings.twilio_sender,
        "CALLBACK_URL": callback_url,
        "EVENT_SIGNATURE_KEY": settings.event_key,
        "INSTANCE_NAME": settings.instance_name,
        "INSTANCE_TAG": settings.instance_tag,
    }
    wanted = Wanted.build(template, values, str(path))
    written = wanted.body["element"]["key"]
    if written in ELEMENTS and written != key:
        raise SettingsError(
            [f"{path}: element.key is {written}, but CONNECTOR_ELEMENT is {key}; make them agree"]
        )
    return wanted


def message_template(settings: Settings) -> Template:
    """Read the reply's file. Raises SettingsError naming the file and what is wrong in it."""
    return _template(chosen_file(settings, "message"), MESSAGE_NAMES)


def chosen_file(settings: Settings, stem: str) -> Path:
    """Choose the JSON file for the connector set: "twilio" has `<stem>.json`.

    Any other has `<stem>.<element>.json`, in CONFIG_DIR or as packaged; a `<stem>.json` that
    somebody has edited wins over the packaged one.
    """
    general = settings.config_dir / f"{stem}.json"
    if settings.connector_element == "twilio":
        return general
    own = settings.config_dir / f"{stem}.{settings.connector_element}.json"
    packaged = packaged_config()
    if own.is_file() and not _same(own, packaged / own.name):
        return own
    if general.is_file() and not _same(general, packaged / general.name):
        return general
    return packaged / own.name


def _same(one: Path, other: Path) -> bool:
    return other.is_file() and one.read_bytes() == other.read_bytes()


def _template(path: Path, names: frozenset[str]) -> Template:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise SettingsError([f"{path}: can't be read: {error}"]) from error
    return Template(text, place=str(path), names=names)
