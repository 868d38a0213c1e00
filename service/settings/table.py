"""The table of settings: names, types, bounds, defaults and what an operator reads of them.

Where a value comes from is worked out in `sources`, not by pydantic-settings: a problem has to name
the file and the line, and nothing may read the environment of the process but the one function that
is told to.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
)

from service.settings.forms import (
    AccountSid,
    ConnectorAddress,
    Count,
    Handlers,
    HostNames,
    PlainName,
    Port,
    PublicUrl,
    RedisUrl,
    RetryPolicy,
    SealingKeys,
    Seconds,
    Secret,
    Sender,
    SharedKeys,
    Text,
    Words,
    lower,
    read_shared_keys,
)


class Settings(BaseModel):
    """Everything an operator can set, checked. Made by `load_settings` alone.

    Times end in `_s` and are seconds. Secrets are `SecretStr`: they print as stars.
    """

    # Defaults are checked too: one that does not go with what another setting was given is told.
    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=True
    )

    public_url: PublicUrl = Field(
        repr=False,  # It may hold a password, which `parley settings` masks.
        description="Address Twilio reaches this service at, without the callback's path.",
        examples=["https://sms.example.com"],
    )
    redis_url: RedisUrl | None = Field(
        default=None,
        description="Redis to keep messages in; without it, one of our own in DATA_DIR.",
        examples=["redis://:password@redis.example.com:6379/0"],
    )
    twilio_account_sid: AccountSid = Field(
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
    twilio_shared_keys: SharedKeys | None = Field(
        default=None,
        description="Shared keys callbacks may be signed with: <id>:<secret>, several by commas.",
        examples=["<id of the key>:<its secret>"],
    )
    event_signature_key: Secret | None = Field(
        default=None,
        description="The instance's event.notification.signature.key, which signs relayed events.",
        examples=["<output of: openssl rand -hex 32>"],
    )
    twilio_sender: Sender = Field(
        description="Our number: the sender the connector's instance is provisioned with.",
        examples=["+14155550100"],
    )
    open_connectors_base_url: ConnectorAddress = Field(
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
    secret_key: SealingKeys = Field(
        description="Seals the instance token in Redis; several by commas, the first one seals.",
        examples=["<output of: openssl rand -hex 32>"],
    )

    handlers: Handlers = Field(
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
        description="Its port; 0 takes a free one.",
        examples=["8081"],
    )
    internal_hosts: HostNames = Field(
        default="",
        description="Names it may be asked for by besides localhost and IP addresses.",
        examples=["parley-internal parley-internal.sms.svc"],
    )
    processes: Annotated[int, Field(ge=1, le=256)] = Field(
        default=1, description="Processes that serve and work.", examples=["2"]
    )
    instance_name: PlainName = Field(
        default="Parley", description="Name of the connector's instance.", examples=["Parley"]
    )
    instance_tag: PlainName = Field(
        default="parley",
        description="Tag our instance is found again by; one per deployment.",
        examples=["parley-production"],
    )

    connector_element: Annotated[Literal["twilio", "twiliov2"], BeforeValidator(lower)] = Field(
        default="twilio",
        description="The connector of Open Connectors that the instance is made of.",
        examples=["twiliov2"],
    )
    connector_watch_s: Seconds = Field(
        default=180.0,
        description="Pause between two looks at the connector's instance.",
        examples=["180"],
    )
    connector_repair: Annotated[Literal["repair", "report"], BeforeValidator(lower)] = Field(
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
    callback_retry_policy: RetryPolicy = Field(
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
        description="How far back a look goes by itself after an outage.",
        examples=["259200"],
    )
    inbox_limit: Count = Field(
        default=10000,
        description="Messages waiting in a partition before callbacks are answered 503.",
        examples=["10000"],
    )
    durability: Annotated[Literal["memory", "fsync", "replicated"], BeforeValidator(lower)] = Field(
        default="fsync",
        description="What Redis has done with a text before its callback is answered.",
        examples=["replicated"],
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
    event_limit_bytes: Annotated[int, Field(ge=65536, le=67108864)] = Field(
        default=4194304, description="Longest event of the platform accepted.", examples=["4194304"]
    )
    lease_ttl_s: Annotated[float, Field(ge=1, le=300)] = Field(
        default=4.0,
        description="How long a partition stays with a worker that went silent.",
        examples=["4"],
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
    long_replies: Annotated[Literal["split", "refuse"], BeforeValidator(lower)] = Field(
        default="split",
        description="A reply of over 1,600 characters: split it at blanks, or fail its handler.",
        examples=["refuse"],
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
    opt_out_words: Words = Field(
        default="STOP STOPALL UNSUBSCRIBE END QUIT CANCEL REVOKE OPTOUT START UNSTOP YES HELP INFO",
        description="Words that Twilio answers itself on a long code, START, UNSTOP and YES from "
        "somebody opted out; none leaves it nothing.",
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
        description="Longest wait before any retry.",
        examples=["300"],
    )
    in_doubt: Annotated[Literal["hold", "resend"], BeforeValidator(lower)] = Field(
        default="hold",
        description="A reply that may have been sent, when the connector can't tell.",
        examples=["hold"],
    )

    log_format: Annotated[Literal["auto", "console", "json"], BeforeValidator(lower)] = Field(
        default="auto",
        description="Form of the log; auto is console on a terminal, else json.",
        examples=["json"],
    )
    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(lower)] = (
        Field(default="info", description="Least level that is logged.", examples=["info"])
    )
    log_texts: bool = Field(
        default=True,
        description="Whether each text handled and each reply sent leaves a line in the log.",
        examples=["false"],
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
