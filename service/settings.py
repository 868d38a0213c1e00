"""The settings: every name, its bounds and its default; read once and checked as a whole.

From the weakest to the strongest: the default, `service.toml` in the config folder, the
environment, a secret file (`NAME_FILE=/run/secrets/x`). An empty value counts as not set.
Only `wiring` and `cli` know this module; everything else is given plain values.

pydantic-settings holds the names, types and bounds. Where a value comes from is worked out here
instead of by its own sources, because a problem has to name the file and the line, and because
nothing may read the environment of the process but the one function that is told to.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from service.errors import SettingsError

DEFAULT = "default"
"""Source of a value that nobody set."""

SETTINGS_FILE = "service.toml"
"""The operator's file in the config folder; every key in it is a setting's name in lower case."""

CALLBACK_PATH = "/callbacks/twilio"
"""Added to PUBLIC_URL by us; people paste it into PUBLIC_URL, where it would be doubled."""

MASK = "********"
"""Stands for a secret, whatever its length; the same eight stars as in `core.masking`."""

SECRET_KEY_LENGTH = 32
"""Characters a key needs at least: 128 bits even when it is written in hexadecimal."""

PACKAGE = Path(__file__).parent


# --- the form of single values ---------------------------------------------------------------


def _trim(value: object) -> object:
    """Drop the blanks and newlines that copying leaves around a value."""
    return value.strip() if isinstance(value, str) else value


def _lower(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _http_address(url: str) -> str:
    """Check an address that others call or that we call with secrets; drop its trailing slash."""
    if re.search(r"[\s\\]|[^\x20-\x7e]", url):  # urlsplit would drop a newline in silence
        raise ValueError("holds a blank, a newline, a backslash or a letter that is not ASCII")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ValueError("is not an address (host or port is malformed)") from None
    if parts.scheme not in {"http", "https"} or not host:
        raise ValueError("is not an address that begins with https://")
    if parts.scheme == "http" and not _is_loopback(host):
        raise ValueError("must begin with https:// (http:// is for this machine alone)")
    if "@" in parts.netloc:
        raise ValueError('must not hold a user or a password ("...@")')
    if "?" in url or "#" in url:
        raise ValueError('must end before any "?" or "#"')
    return url.rstrip("/")


def _public_url(url: str) -> str:
    address = _http_address(url)
    if address.endswith(CALLBACK_PATH):
        raise ValueError(f"must end before {CALLBACK_PATH}, which is added to it")
    return address


def _redis_url(secret: SecretStr) -> SecretStr:
    scheme, separator, rest = secret.get_secret_value().partition("://")
    if not separator or scheme not in REDIS_SCHEMES:
        raise ValueError(f"must begin with one of {', '.join(f'{s}://' for s in REDIS_SCHEMES)}")
    place, _, query = rest.rpartition("@")[2].partition("?")
    if not place.strip("/"):
        raise ValueError("names no server")
    if scheme != "unix":
        authority, _, path = place.partition("/")
        for host in authority.split(","):
            _host_and_port(host.strip())
        if scheme == "redis+sentinel":
            service, _, path = path.partition("/")
            if not service:
                raise ValueError("names no service; Sentinel's end like this: host:26379/mymaster")
        if not re.fullmatch(r"[0-9]*/?", path):
            raise ValueError("ends with a database that is no number, such as /0")
    try:
        options = parse_qsl(query, strict_parsing=True, keep_blank_values=True) if query else []
    except ValueError:
        raise ValueError("has options that are not name=value&name=value") from None
    for name, _ in options:
        if not REDIS_OPTIONS.fullmatch(name):
            raise ValueError(f"has an option that is none of Redis's: {name[:40]}")
    return secret


def _host_and_port(host: str) -> None:
    try:
        parts = urlsplit(f"//{host}")
        named, _ = parts.hostname, parts.port
    except ValueError:
        named = None
    if not named:
        raise ValueError("lists a server that is not host:port")


REDIS_OPTIONS = re.compile(
    "db|username|password|protocol|client_name|max_connections|tls|sentinel_username"
    "|sentinel_password|health_check_interval|socket_(timeout|connect_timeout|keepalive|read_size)"
    "|ssl_(ca_certs|ca_path|ca_data|cert_reqs|certfile|keyfile|password|check_hostname"
    "|min_version|ciphers|exclude_verify_flags|include_verify_flags)"
)
"""What may follow the "?" of REDIS_URL: redis-py's names, and Parley's for Sentinel and Cluster."""

REDIS_SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "redis+cluster")
"""A single server plain, by TLS and by Unix socket; Sentinel; Cluster."""


def _credential(secret: SecretStr) -> SecretStr:
    """Refuse what can't be part of an Authorization header `User <secret>, Organization ...`."""
    if not re.fullmatch(r"[!-+\--~]+", secret.get_secret_value()):
        raise ValueError("holds a blank, a newline, a comma or a letter that is not ASCII")
    return secret


def _shared_keys(secret: SecretStr | None) -> SecretStr | None:
    if secret is not None and not read_shared_keys(secret.get_secret_value()):
        raise ValueError("is not a list of <id>:<secret>, separated by commas")
    return secret


def read_shared_keys(text: str) -> dict[str, str]:
    """Read "id:secret,id:secret" into secrets by id; nothing if any part of it is malformed."""
    pairs = [re.fullmatch(r"\s*([!-9;-~]+):([!-~]+)\s*", part) for part in text.split(",")]
    return {pair[1]: pair[2] for pair in pairs if pair} if all(pairs) else {}


def _words(words: str) -> str:
    return " ".join(words.replace(",", " ").upper().split())


RETRY_POLICIES = ("4xx", "5xx", "ct", "rt")
"""What Twilio can be asked to repeat a callback for; `all` is every one of them."""


def _retry_policy(text: str) -> str:
    words = text.replace(",", " ").lower().split()
    if not words or not {"all", *RETRY_POLICIES}.issuperset(words):
        raise ValueError(f"must be all, or some of {','.join(RETRY_POLICIES)} with commas")
    return "all" if "all" in words else ",".join(p for p in RETRY_POLICIES if p in words)


def _sealing_keys(secret: SecretStr) -> SecretStr:
    for key in secret.get_secret_value().split(","):
        if len(key.strip()) < SECRET_KEY_LENGTH:
            raise ValueError(
                f"needs at least {SECRET_KEY_LENGTH} characters for each key "
                "(several are separated by commas)"
            )
    return secret


def _account_sid(sid: str) -> str:
    if not re.fullmatch(r"AC[0-9A-Za-z]{32}", sid):
        raise ValueError('is not an account SID ("AC" and 32 letters or digits)')
    return sid


SENDER_FORMS = re.compile(
    r"""\+[1-9][0-9]{6,14}              # E.164
      | [0-9]{3,8}                      # short code
      | MG[0-9A-Za-z]{32}               # messaging service
      | (?=.*[A-Za-z])[A-Za-z0-9 &_-]{2,11}   # alphanumeric sender
      | [a-z]+:\S+                      # channel address, opaque to us
    """,
    re.VERBOSE,
)


def _sender(sender: str) -> str:
    if not SENDER_FORMS.fullmatch(sender):
        raise ValueError('is not a sender (a number is "+", country code and digits, no blanks)')
    return sender


def _is_file_name(handlers: str) -> bool:
    return handlers.endswith(".py") or "/" in handlers


def _handlers(handlers: str) -> str:
    if _is_file_name(handlers) and not Path(handlers).is_file():
        raise ValueError(f"names a file that is not there: {handlers}")
    return handlers


def _plain_name(name: str) -> str:
    # Open Connectors strips HTML from names and tags: what it keeps would not be what we look for.
    if re.search(r"[<>\x00-\x1f]", name):
        raise ValueError('must not hold "<", ">" or a newline')
    return name


Text = Annotated[str, BeforeValidator(_trim)]
Secret = Annotated[SecretStr, BeforeValidator(_trim), AfterValidator(_credential)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Port = Annotated[int, Field(ge=0, le=65535)]


# --- the table -------------------------------------------------------------------------------


class Settings(BaseSettings):
    """Everything an operator can set, checked. Made by `load_settings` alone.

    Times end in `_s` and are seconds. Secrets are `SecretStr`: they print as stars.
    """

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, coerce_numbers_to_str=False
    )

    public_url: Annotated[Text, AfterValidator(_public_url)] = Field(
        description="Address Twilio reaches this service at, without the callback's path.",
        examples=["https://sms.example.com"],
    )
    redis_url: Annotated[SecretStr, BeforeValidator(_trim), AfterValidator(_redis_url)] | None = (
        Field(
            default=None,
            description="Redis to keep messages in; without it, one of our own in DATA_DIR.",
            examples=["redis://:password@redis.example.com:6379/0"],
        )
    )
    twilio_account_sid: Annotated[Text, AfterValidator(_account_sid)] = Field(
        description="The Twilio account; callbacks of any other are refused.",
        examples=["AC0123456789abcdef0123456789abcdef"],
    )
    twilio_auth_token: Secret = Field(
        description="Its auth token, which signs callbacks.",
        examples=["<auth token of the Twilio console>"],
    )
    twilio_auth_token_secondary: Secret | None = Field(
        default=None,
        description="A second token accepted in signatures, while tokens are rotated.",
        examples=["<secondary auth token of the Twilio console>"],
    )
    twilio_shared_keys: Annotated[
        SecretStr | None, BeforeValidator(_trim), AfterValidator(_shared_keys)
    ] = Field(
        default=None,
        description="Shared keys callbacks may be signed with: <id>:<secret>, several by commas.",
        examples=["<id of the key>:<its secret>"],
    )
    event_signature_key: Secret | None = Field(
        default=None,
        description="The instance's event.notification.signature.key, which signs relayed events.",
        examples=["<output of: openssl rand -hex 32>"],
    )
    twilio_sender: Annotated[Text, AfterValidator(_sender)] = Field(
        description="Our number: the sender the connector's instance is provisioned with.",
        examples=["+14155550100"],
    )
    open_connectors_base_url: Annotated[Text, AfterValidator(_http_address)] = Field(
        description="Base of the Open Connectors API of your region.",
        examples=["https://api.openconnectors.us2.ext.hana.ondemand.com/elements/api-v2"],
    )
    open_connectors_user_secret: Secret = Field(
        description="The user secret of Open Connectors.",
        examples=["<User of the Authorization header in the API documentation>"],
    )
    open_connectors_organization_secret: Secret = Field(
        description="The organization secret of Open Connectors.",
        examples=["<Organization of the Authorization header in the API documentation>"],
    )
    secret_key: Annotated[SecretStr, BeforeValidator(_trim), AfterValidator(_sealing_keys)] = Field(
        description="Seals the instance token in Redis; several by commas, the first one seals.",
        examples=["<output of: openssl rand -hex 32>"],
    )

    handlers: Annotated[Text, AfterValidator(_handlers)] = Field(
        default="handlers.py",
        description="The handlers: a file (relative to where it is set) or a module's name.",
        examples=["/srv/parley/handlers.py"],
    )
    data_dir: Path = Field(
        default=Path("~/.local/share/parley"),
        description="Folder of the Redis of our own; the default follows XDG_DATA_HOME.",
        examples=["/var/lib/parley"],
    )
    host: Text = Field(
        default="127.0.0.1",
        description="Interface of the public listener; TLS ends in front of it.",
        examples=["0.0.0.0"],  # noqa: S104  (an example, chosen by an operator)
    )
    port: Port = Field(default=8080, description="Its port; 0 takes a free one.", examples=["8080"])
    internal_host: Text = Field(
        default="127.0.0.1",
        description="Interface of the internal listener (readiness). Never the internet's.",
        examples=["10.0.0.5"],
    )
    internal_port: Port = Field(
        default=8081,
        validate_default=True,
        description="Its port; 0 takes a free one.",
        examples=["8081"],
    )
    processes: Annotated[int, Field(ge=1, le=256)] = Field(
        default=1, description="Processes that serve and work.", examples=["2"]
    )
    instance_name: Annotated[Text, AfterValidator(_plain_name)] = Field(
        default="Parley", description="Name of the connector's instance.", examples=["Parley"]
    )
    instance_tag: Annotated[Text, AfterValidator(_plain_name)] = Field(
        default="parley",
        description="Tag our instance is found again by; one per deployment.",
        examples=["parley-production"],
    )

    connector_element: Annotated[Literal["twilio", "twiliov2"], BeforeValidator(_lower)] = Field(
        default="twilio",
        description="The connector of Open Connectors that the instance is made of.",
        examples=["twiliov2"],
    )
    connector_watch_s: Seconds = Field(
        default=180.0,
        description="Pause between two looks at the connector's instance.",
        examples=["180"],
    )
    connector_repair: Annotated[Literal["repair", "report"], BeforeValidator(_lower)] = Field(
        default="repair",
        description="What is done when somebody has changed the instance.",
        examples=["report"],
    )
    backfill_every_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        default=300.0,
        description="Pause between two looks for texts no callback brought; 0 turns them off.",
        examples=["300"],
    )
    backfill_overlap_s: Annotated[float, Field(ge=0, le=86400)] = Field(
        default=600.0,
        description="How far before the last look each begins, for texts logged late.",
        examples=["600"],
    )
    callback_retries: Annotated[int, Field(ge=0, le=5)] = Field(
        default=5,
        description="Times Twilio repeats a callback that failed; 0 leaves it to Twilio's default.",
        examples=["5"],
    )
    callback_retry_policy: Annotated[Text, AfterValidator(_retry_policy)] = Field(
        default="all",
        description="What it repeats: all, or some of 4xx, 5xx, ct (connection), rt (time-out).",
        examples=["5xx,ct,rt"],
    )

    partitions: Annotated[int, Field(ge=1, le=1024)] = Field(
        default=16, description="Shards of conversations; fixed once in use.", examples=["16"]
    )
    dedupe_window_s: Annotated[int, Field(ge=60)] = Field(
        default=604800, description="How long a MessageSid is remembered.", examples=["604800"]
    )
    backfill_max_s: Annotated[float, Field(ge=60)] = Field(
        default=259200.0,
        validate_default=True,
        description="How far back a look goes by itself after an outage.",
        examples=["259200"],
    )
    inbox_limit: Count = Field(
        default=10000,
        description="Messages waiting in a partition before callbacks are answered 503.",
        examples=["10000"],
    )
    durability: Annotated[Literal["memory", "fsync", "replicated"], BeforeValidator(_lower)] = (
        Field(
            default="fsync",
            description="What Redis has done with a text before its callback is answered.",
            examples=["replicated"],
        )
    )
    replicas: Annotated[int, Field(ge=1, le=100)] = Field(
        default=1,
        description="Replicas that hold a text before it is answered, when replicated.",
        examples=["1"],
    )
    replica_timeout_s: Annotated[float, Field(ge=0.001, le=4)] = Field(
        default=1.0, description="Longest to wait for them; then 503.", examples=["1"]
    )
    body_limit_bytes: Annotated[int, Field(ge=1024, le=1048576)] = Field(
        default=65536, description="Longest callback accepted.", examples=["65536"]
    )
    lease_ttl_s: Annotated[float, Field(ge=1, le=300)] = Field(
        default=10.0,
        description="How long a partition stays with a worker that went silent.",
        examples=["10"],
    )
    handler_timeout_s: Seconds = Field(
        default=30.0, description="Longest a handler may take.", examples=["30"]
    )
    handler_concurrency: Count = Field(
        default=64, description="Handlers at once in a process.", examples=["64"]
    )
    handler_attempts: Count = Field(
        default=5, description="Attempts before a message is a dead letter.", examples=["5"]
    )
    send_timeout_s: Seconds = Field(
        default=15.0, description="Longest to wait for the connector's answer.", examples=["15"]
    )
    send_concurrency: Count = Field(
        default=128, description="Replies on their way at once in a process.", examples=["128"]
    )
    send_attempts: Count = Field(
        default=8, description="Attempts before a reply is a dead letter.", examples=["8"]
    )
    opt_out_words: Annotated[Text, AfterValidator(_words)] = Field(
        default="STOP STOPALL UNSUBSCRIBE END QUIT CANCEL REVOKE OPTOUT START UNSTOP YES HELP INFO",
        description="Words that Twilio answers itself on a long code; none leaves it nothing.",
        examples=["STOP START HELP"],
    )
    segments_per_second: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        default=0.0,
        description="SMS segments a second a sender may send; 0 leaves it to Twilio.",
        examples=["1"],
    )
    retry_first_s: Seconds = Field(
        default=1.0, description="Longest wait before the first retry.", examples=["1"]
    )
    retry_max_s: Seconds = Field(
        default=300.0,
        validate_default=True,
        description="Longest wait before any retry.",
        examples=["300"],
    )
    in_doubt: Annotated[Literal["hold", "resend"], BeforeValidator(_lower)] = Field(
        default="hold",
        description="A reply that may have been sent, when the connector can't tell.",
        examples=["hold"],
    )

    log_format: Annotated[Literal["auto", "console", "json"], BeforeValidator(_lower)] = Field(
        default="auto",
        description="Form of the log; auto is console on a terminal, else json.",
        examples=["json"],
    )
    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)] = (
        Field(default="info", description="Least level that is logged.", examples=["info"])
    )
    config_dir: Path = Field(
        default=Path("config"),
        description="Folder of service.toml, instance.json, message.json. Environment only.",
        examples=["/etc/parley"],
    )

    @field_validator("internal_port")
    @classmethod
    def _keep_listeners_apart(cls, port: int, info: ValidationInfo) -> int:
        if port and port == info.data.get("port"):
            raise ValueError(
                f"must differ from PORT ({port}): the internet must not reach this listener"
            )
        return port

    @field_validator("backfill_max_s")
    @classmethod
    def _keep_backfill_known(cls, longest: float, info: ValidationInfo) -> float:
        window = info.data.get("dedupe_window_s", longest)
        if longest > window:
            raise ValueError(
                f"must not be more than DEDUPE_WINDOW_S ({window:g}): "
                "what is forgotten would be answered again"
            )
        return longest

    @field_validator("retry_max_s")
    @classmethod
    def _keep_retries_ordered(cls, longest: float, info: ValidationInfo) -> float:
        first = info.data.get("retry_first_s", 0)
        if longest < first:
            raise ValueError(f"must not be less than RETRY_FIRST_S ({first:g})")
        return longest

    @property
    def secret_keys(self) -> tuple[str, ...]:
        """The sealing keys, newest first: the first seals, all of them unseal."""
        return tuple(key.strip() for key in self.secret_key.get_secret_value().split(","))

    @property
    def auth_tokens(self) -> tuple[str, ...]:
        """The tokens a callback may be signed with, the primary one first."""
        tokens = (self.twilio_auth_token, self.twilio_auth_token_secondary)
        return tuple(token.get_secret_value() for token in tokens if token is not None)

    @property
    def words_left_to_twilio(self) -> frozenset[str]:
        """OPT_OUT_WORDS, in upper case."""
        words = frozenset(self.opt_out_words.split())
        return frozenset() if words == {"NONE"} else words

    @property
    def shared_keys(self) -> dict[str, str]:
        """Secrets of Twilio's shared keys by their ids."""
        keys = self.twilio_shared_keys
        return {} if keys is None else read_shared_keys(keys.get_secret_value())

    @property
    def event_key(self) -> str:
        """What the platform signs its events with, "" if that is not set."""
        return self.event_signature_key.get_secret_value() if self.event_signature_key else ""

    @property
    def internal_port_given(self) -> bool:
        """Whether somebody chose INTERNAL_PORT: a chosen one is used or the start fails."""
        return "internal_port" in self.model_fields_set

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take values from `load_settings` alone."""
        return (init_settings,)


# --- where values come from ------------------------------------------------------------------


class Problem(NamedTuple):
    """Something to put right: the setting's name as it is set ("" for a whole file), and what."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class SettingRow:
    """A line of `parley settings`.

    shown: the value, secrets masked; "missing" for a required one, "not set" for an optional one.
    source: "default", "environment", "file /run/secrets/x", "config/service.toml:12" or "".
    problem: what is wrong with it, "" when nothing is.
    """

    name: str
    shown: str
    source: str
    problem: str


class _Found(NamedTuple):
    value: str | int | float
    source: str


@dataclass(slots=True)
class _Gathered:
    """Raw values by field name, the strongest source's, and the problems met on the way."""

    found: dict[str, _Found]
    problems: list[Problem]


def config_dir(environ: Mapping[str, str] | None = None) -> Path:
    """Choose the folder of service.toml, instance.json, message.json and handlers.py.

    In this order: CONFIG_DIR; `config` in the working directory if it holds a service.toml; the
    copy that the package carries (in a checkout, `config` beside the package).
    Returns an absolute path, which exists unless CONFIG_DIR is wrong.
    """
    environ = os.environ if environ is None else environ
    chosen = environ.get("CONFIG_DIR", "").strip()
    if chosen:
        return _place(chosen, Path.cwd(), environ)
    here = Path("config").absolute()
    if (here / SETTINGS_FILE).is_file():
        return here
    return packaged_config()


def packaged_config() -> Path:
    """Return the folder of configuration files that came with the package, as they came."""
    carried = PACKAGE / "_config"
    return carried if carried.is_dir() else PACKAGE.parent / "config"


def load_settings(
    config_dir: Path | None = None, environ: Mapping[str, str] | None = None
) -> Settings:
    """Read and check every setting.

    config_dir: folder of service.toml; chosen by the function of that name if None.
    environ: the environment; the process's own if None.
    Raises SettingsError with every problem there is, in the order of the table.
    """
    environ = os.environ if environ is None else environ
    gathered = _gather(config_dir, environ)
    settings, problems = _check(gathered, environ)
    if settings is None or problems:
        raise SettingsError([problem.text for problem in problems])
    return settings


def explain_settings(
    config_dir: Path | None = None, environ: Mapping[str, str] | None = None
) -> tuple[SettingRow, ...]:
    """List every setting with its effective value and where that came from; never raises.

    Arguments as for `load_settings`. A problem of a whole file comes first, named after the file.
    """
    environ = os.environ if environ is None else environ
    gathered = _gather(config_dir, environ)
    settings, problems = _check(gathered, environ)
    texts: dict[str, str] = {}
    for problem in problems:
        texts.setdefault(problem.name, problem.text)
    rows = [
        SettingRow(SETTINGS_FILE, "", "", problem.text) for problem in problems if not problem.name
    ]
    for field, info in Settings.model_fields.items():
        name = field.upper()
        found = gathered.found.get(field)
        if found is not None:
            shown, source = _show(field, found.value), found.source
        elif info.is_required():
            shown, source = "missing", ""
        else:
            default = info.default if settings is None else getattr(settings, field)
            shown, source = "not set" if default is None else str(default), DEFAULT
        rows.append(SettingRow(name, shown, source, texts.get(name, "")))
    return tuple(rows)


SECRETS = frozenset(
    name for name, info in Settings.model_fields.items() if "SecretStr" in repr(info.annotation)
)
"""Fields whose value is never shown; of `redis_url` only the user and the password are hidden."""


def _show(field: str, value: object) -> str:
    text = str(value).strip()
    if field in SECRETS and (field != "redis_url" or "://" not in text):
        return f"{MASK} ({len(text)} characters)"
    text = re.sub(r"://.*@", f"://{MASK}@", text, flags=re.DOTALL)
    return re.sub(r"(password=)[^&]*", rf"\1{MASK}", text)


def _gather(folder: Path | None, environ: Mapping[str, str]) -> _Gathered:
    gathered = _Gathered({}, [])
    source = "environment" if environ.get("CONFIG_DIR", "").strip() else DEFAULT
    folder = config_dir(environ) if folder is None else folder.absolute()
    if not folder.is_dir():
        gathered.problems.append(_problem("config_dir", f"names no folder: {folder}", source))
    _add_defaults(folder, environ, gathered)
    _read_settings_file(folder / SETTINGS_FILE, environ, gathered)
    _read_environment(environ, gathered)
    gathered.found["config_dir"] = _Found(str(folder), source)
    return gathered


def _add_defaults(folder: Path, environ: Mapping[str, str], gathered: _Gathered) -> None:
    """Work out the two defaults that depend on where we are; the rest stand in the table."""
    # A folder of the user's, not of the working directory: started from elsewhere, the service
    # must find the messages it had accepted. Source: XDG Base Directory Specification.
    data_home = environ.get("XDG_DATA_HOME", "").strip() or "~/.local/share"
    data_dir = str(_place(f"{data_home}/parley", Path.cwd(), environ))
    gathered.found["data_dir"] = _Found(data_dir, DEFAULT)
    gathered.found["handlers"] = _Found(str(folder / "handlers.py"), DEFAULT)


def _place(path: str, base: Path, environ: Mapping[str, str]) -> Path:
    if path == "~" or path.startswith("~/"):
        path = f"{environ.get('HOME', '').strip() or Path.home()}{path[1:]}"
    return base / path


def _note(
    field: str, value: str | float, source: str, base: Path, environ: Mapping[str, str]
) -> _Found:
    """Note a value; a relative file or folder is meant from where it was written (`base`)."""
    is_path = field == "data_dir" or (field == "handlers" and _is_file_name(str(value).strip()))
    if isinstance(value, str) and is_path:
        value = str(_place(value.strip(), base, environ))
    return _Found(value, source)


def _read_environment(environ: Mapping[str, str], gathered: _Gathered) -> None:
    for field in Settings.model_fields.keys() - {"config_dir"}:
        name = field.upper()
        if environ.get(name, "").strip():
            gathered.found[field] = _note(field, environ[name], "environment", Path.cwd(), environ)
        path = environ.get(f"{name}_FILE", "").strip()
        if path:
            _read_secret_file(field, path, environ, gathered)


def _read_secret_file(
    field: str, path: str, environ: Mapping[str, str], gathered: _Gathered
) -> None:
    source = f"file {path}"
    try:
        text = Path(path).read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
        gathered.problems.append(
            _problem(field, f"can't be read from {field.upper()}_FILE={path}: {reason}", "")
        )
        return
    if text.strip():
        gathered.found[field] = _note(field, text, source, Path.cwd(), environ)
    else:
        gathered.problems.append(_problem(field, "is empty", source))


def _read_settings_file(path: Path, environ: Mapping[str, str], gathered: _Gathered) -> None:
    shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    try:
        text = path.read_text(encoding="utf-8")
        tables = tomllib.loads(text)
    except FileNotFoundError:
        return
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"at line (\d+)", str(error))  # or "at end of document"
        place = f"{shown}:{line[1] if line else max(1, len(text.splitlines()))}"
        gathered.problems.append(Problem("", f"{place}: {error}"))
        return
    except (OSError, UnicodeError) as error:
        gathered.problems.append(Problem("", f"{shown}: can't be read: {error}"))
        return
    lines = _key_lines(text)
    for key, value in _flatten(tables):
        source = f"{shown}:{lines.get(key, 1)}"
        if key not in Settings.model_fields or key == "config_dir":
            gathered.problems.append(Problem("", f"{source}: {_unknown(key)}"))
        elif isinstance(value, bool) or not isinstance(value, str | int | float):
            gathered.problems.append(_problem(key, "must be text in quotes or a number", source))
        elif value != "":
            gathered.found[key] = _note(key, value, source, path.parent, environ)


def _flatten(table: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield settings by name; a table's name is the beginning of its settings' names."""
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}_")
        else:
            yield f"{prefix}{key}", value


def _key_lines(text: str) -> dict[str, int]:
    """Find the line each key is set on, by name as `_flatten` makes it; tomllib does not tell."""
    lines: dict[str, int] = {}
    table = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*\[([^\[\]]+)\]", line):
            table = f"{header[1]}."
        elif key := re.match(r"\s*([\w.\"'-]+)\s*=", line):
            name = re.sub(r"[\s\"']", "", f"{table}{key[1]}").replace(".", "_")
            lines.setdefault(name, number)
    return lines


def _unknown(key: str) -> str:
    names = [name for name in Settings.model_fields if name != "config_dir"]
    nearest = difflib.get_close_matches(key.lower(), names, n=1)
    return f"unknown setting {key}" + (f"; the nearest name is {nearest[0]}" if nearest else "")


# --- what is said about them -----------------------------------------------------------------


def _problem(field: str, what: str, source: str) -> Problem:
    name = field.upper()
    origin = f" ({source})" if source else ""
    if source == DEFAULT:
        # It does not go with what another setting was given; an example would be the default again.
        return Problem(name, f"{name} {what}{origin}; set {name}")
    example = "".join((Settings.model_fields[field].examples or [])[:1])
    return Problem(name, f"{name} {what}{origin}; example: {name}={example}")


WORDS: Mapping[str, str] = {
    "int_parsing": "is not a whole number",
    "int_from_float": "is not a whole number",
    "float_parsing": "is not a number",
    "finite_number": "is not a number",
    "string_type": "must be text, in quotes",
    "path_type": "must be text, in quotes",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
    "value_error": "{error}",
}
"""What pydantic finds, in our words. Its own are not shown: they may quote a secret."""


def _check(
    gathered: _Gathered, environ: Mapping[str, str]
) -> tuple[Settings | None, list[Problem]]:
    """Make the settings, None if they can't be made, and sort all problems as the table is."""
    problems = list(gathered.problems)
    known = {problem.name for problem in problems}
    settings = None
    try:
        settings = Settings.model_validate(
            {field: found.value for field, found in gathered.found.items()}
        )
    except ValidationError as error:
        for item in error.errors(include_url=False, include_input=False):
            field = str(item["loc"][0])
            if field.upper() in known:
                continue
            if item["type"] == "missing":
                problems.append(_problem(field, f"is missing{_misspelt(field, environ)}", ""))
            else:
                words = WORDS.get(item["type"], "is not valid").format(**item.get("ctx", {}))
                source = gathered.found[field].source if field in gathered.found else DEFAULT
                problems.append(_problem(field, words, source))
    order = {field.upper(): place for place, field in enumerate(Settings.model_fields)}
    return settings, sorted(problems, key=lambda problem: order.get(problem.name, -1))


def _misspelt(field: str, environ: Mapping[str, str]) -> str:
    """Point at a variable that looks like the missing one and is none of ours."""
    others = [name for name in environ if name.lower() not in Settings.model_fields]
    near = difflib.get_close_matches(field.upper(), others, n=1, cutoff=0.85)
    return f" ({near[0]} is set: is that the one?)" if near else ""
