"""The table of settings: names, types, bounds, defaults and what an operator reads of them.

Where a value comes from is worked out in `sources`, not by pydantic-settings: a problem has to name
the file and the line, and nothing may read the environment of the process but the one function that
is told to.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]

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
    Authorities,
    ConnectorAddress,
    Count,
    Handlers,
    HostNames,
    PlainName,
    Port,
    Proxy,
    PublicUrl,
    RedisUrl,
    RetryPolicy,
    SealingKeys,
    Seconds,
    Secret,
    SenderAddress,
    SharedKeys,
    Text,
    Words,
    lower,
    read_shared_keys,
)

SET_UP_BY = frozenset(
    {
        "open_connectors_base_url",
        "open_connectors_user_secret",
        "open_connectors_organization_secret",
        "twilio_account_sid",
        "twilio_auth_token",
        "twilio_sender",
    }
)
"""Fields without which no text can be taken or answered; the console asks for them as well."""


class Settings(BaseModel):
    """Everything an operator can set, checked. Made by `load_settings` and `setup` alone.

    Times end in `_s` and are seconds. Secrets are `SecretStr`: they print as stars.
    """

    # Defaults are checked too: one that does not go with what another setting was given is told.
    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=True
    )

    public_url: PublicUrl = Field(
        repr=False,  # It may hold a password, which `parley settings` masks.
        description="The address Twilio reaches Parley at, without `/callbacks/twilio`. A user "
        "and a password in it are for Twilio to log in with, and are masked.",
        examples=["https://sms.example.com"],
    )
    redis_url: RedisUrl | None = Field(
        default=None,
        description="The Redis that messages are kept in: `redis://`, `rediss://`, `unix://`, "
        "`redis+sentinel://host:port,host:port/service[/db]` or "
        "`redis+cluster://host:port,host:port`; the last two take `?tls=true`. In a "
        "password, write `/ ? # @` as `%2F %3F %23 %40`. Without it, Parley runs one "
        "of its own in `DATA_DIR`.",
        examples=["redis://:password@redis.example.com:6379/0"],
    )
    twilio_account_sid: AccountSid = Field(
        description="The Twilio account. Callbacks of any other are refused.",
        examples=["AC0123456789abcdef0123456789abcdef"],
    )
    twilio_auth_token: Secret = Field(
        description="The account's auth token. It verifies callbacks, and is given to the "
        "connector.",
        examples=["<auth token of the Twilio console>"],
    )
    twilio_auth_token_secondary: Secret | None = Field(
        default=None,
        description="A second token accepted in signatures, while tokens are rotated.",
        examples=["<secondary auth token of the Twilio console>"],
    )
    twilio_shared_keys: SharedKeys | None = Field(
        default=None,
        description="Shared keys of Twilio's that callbacks may be signed with instead: "
        "`<id>:<secret>`, several by commas.",
        examples=["<id of the key>:<its secret>"],
    )
    event_signature_key: Secret | None = Field(
        default=None,
        description="The instance's `event.notification.signature.key`. The platform's relayed "
        "events are refused without it.",
        examples=["<output of: openssl rand -hex 32>"],
    )
    twilio_sender: SenderAddress = Field(
        description="Our number: the sender that the connector's instance is provisioned with.",
        examples=["+14155550100"],
    )
    open_connectors_base_url: ConnectorAddress = Field(
        description="The base of the Open Connectors API of your region, up to and including "
        "`/elements/api-v2`.",
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
    connector_ca_file: Authorities | None = Field(
        default=None,
        description="A file of authorities in PEM form that are trusted for the connector, instead "
        "of the system's. `SSL_CERT_FILE` of the environment counts where this is not set.",
        examples=["/etc/ssl/company.pem"],
    )
    https_proxy: Proxy | None = Field(
        default=None,
        description="The proxy on the way to a connector with an https:// address: "
        "`http://user:password@host:port`. In the environment `https_proxy` as well.",
        examples=["http://proxy.example.com:3128"],
    )
    http_proxy: Proxy | None = Field(
        default=None,
        description="The same for a connector with an http:// address, which is on this machine.",
        examples=["http://proxy.example.com:3128"],
    )
    no_proxy: Text | None = Field(
        default=None,
        description="Hosts, and domains of hosts, that no proxy is used for, by commas; `*` for "
        "all. In the environment `no_proxy` as well.",
        examples=["localhost,127.0.0.1,.example.com"],
    )
    secret_key: SealingKeys = Field(
        description="Seals the instance token and the setup in Redis: 32 characters or more. "
        "Several are separated by commas; the first one seals, all of them open. Without "
        "`REDIS_URL` a new one is made up and kept in `DATA_DIR` where none is set.",
        examples=["<output of: openssl rand -hex 32>"],
    )

    handlers: Handlers = Field(
        default="handlers.py",
        description="The handlers: a file, relative to where it is set, or a module's name. By "
        "default the one in `CONFIG_DIR`.",
        examples=["/srv/parley/handlers.py"],
    )
    data_dir: Path = Field(
        default=Path("~/.local/share/parley"),
        description="The folder of the Redis of our own. It has to be the user's own, and is "
        "closed to others. The default follows `XDG_DATA_HOME`.",
        examples=["/var/lib/parley"],
    )
    host: Text = Field(
        default="127.0.0.1",
        description="The interface of the public listener. TLS ends in front of it.",
        examples=["0.0.0.0"],  # noqa: S104  (an example, chosen by an operator)
    )
    port: Port = Field(
        default=8080,
        description="The public listener's port; 0 takes a free one.",
        examples=["8080"],
    )
    internal_host: Text = Field(
        default="127.0.0.1",
        description="The interface of the internal listener (readiness, metrics). Never the "
        "internet's.",
        examples=["10.0.0.5"],
    )
    internal_port: Port = Field(
        default=8081,
        description="The internal listener's port; 0 takes a free one. If 8081 is taken and you "
        "did not choose it, a free one is taken; `parley ready` asks 8081 then, so "
        "choose one.",
        examples=["8081"],
    )
    internal_hosts: HostNames = Field(
        default="",
        description="Names the internal listener may be asked for by besides `localhost` and IP "
        "addresses, such as a Kubernetes service's; several by commas. Any other name "
        "is answered 421: a web page could have made it lead here.",
        examples=["parley-internal parley-internal.sms.svc"],
    )
    console: Annotated[Literal["on", "off"], BeforeValidator(lower)] = Field(
        default="on",
        description="Whether the internal listener has the console, a set of pages for operators: "
        "`on` or `off`.",
        examples=["off"],
    )
    console_hosts: HostNames = Field(
        default="",
        description="Names and IPv4 addresses the console may be asked for by besides `localhost`, "
        "loopback addresses and `INTERNAL_HOST`; several by commas. Any other is answered 421.",
        examples=["parley.ops.example.com"],
    )
    console_tls: Annotated[Literal["on", "off"], BeforeValidator(lower)] = Field(
        default="off",
        description="Whether browsers reach the console by https alone, through a proxy that ends "
        "TLS: `on` or `off`. With `on`, its cookies are never sent without TLS.",
        examples=["on"],
    )
    processes: Annotated[int, Field(ge=1, le=256)] = Field(
        default=1, description="The processes that serve and work.", examples=["2"]
    )
    instance_name: PlainName = Field(
        default="Parley",
        description="The name of our instance at the connector.",
        examples=["Parley"],
    )
    instance_tag: PlainName = Field(
        default="parley",
        description="The tag our instance is found again by at the connector; one per deployment.",
        examples=["parley-production"],
    )

    connector_element: Annotated[Literal["twilio", "twiliov2"], BeforeValidator(lower)] = Field(
        default="twilio",
        description="The connector of Open Connectors that the instance is made of: `twilio` or "
        "`twiliov2`. Set `EVENT_SIGNATURE_KEY` with the latter, whose platform sends "
        "events.",
        examples=["twiliov2"],
    )
    connector_watch_s: Seconds = Field(
        default=180.0,
        description="How often the connector's instance is looked at, beside at once when it is "
        "refused.",
        examples=["180"],
    )
    connector_repair: Annotated[Literal["repair", "report"], BeforeValidator(lower)] = Field(
        default="repair",
        description="What is done when somebody has changed the instance: `repair` puts it right. "
        "`report` leaves it as it is, and says so in the log and in `/readyz`, which "
        "is not ready while no reply can leave.",
        examples=["report"],
    )
    backfill_every_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        default=300.0,
        description="How often texts are looked for that no callback brought; 0 turns it off.",
        examples=["300"],
    )
    backfill_overlap_s: Annotated[float, Field(ge=0, le=86400)] = Field(
        default=600.0,
        description="How far before the last look each one begins, for texts logged late.",
        examples=["600"],
    )
    callback_retries: Annotated[int, Field(ge=0, le=5)] = Field(
        default=5,
        description="How often Twilio repeats a callback that failed, 0 to 5; 0 leaves it to "
        "Twilio's default. Not with `twiliov2`, whose platform calls us.",
        examples=["5"],
    )
    callback_retry_policy: RetryPolicy = Field(
        default="all",
        description="After what Twilio repeats a callback: `all`, or some of `4xx`, `5xx`, `ct` "
        "(no connection) and `rt` (no answer in time).",
        examples=["5xx,ct,rt"],
    )

    partitions: Annotated[int, Field(ge=1, le=1024)] = Field(
        default=16, description="The shards of conversations; fixed once in use.", examples=["16"]
    )
    dedupe_window_s: Annotated[int, Field(ge=60)] = Field(
        default=604800, description="How long a MessageSid is remembered.", examples=["604800"]
    )
    backfill_max_s: Annotated[float, Field(ge=60)] = Field(
        default=259200.0,
        description="How far back a look goes by itself after an outage; at most "
        "`DEDUPE_WINDOW_S`.",
        examples=["259200"],
    )
    inbox_limit: Count = Field(
        default=10000,
        description="Messages waiting in a partition before callbacks are answered 503.",
        examples=["10000"],
    )
    durability: Annotated[Literal["memory", "fsync", "replicated"], BeforeValidator(lower)] = Field(
        default="fsync",
        description="Where a text is before its callback is answered: in the `memory` of Redis, "
        "on its disk (`fsync`), or with `REPLICAS` replicas as well (`replicated`). "
        "The start and `/readyz` say what your Redis can't keep.",
        examples=["replicated"],
    )
    replicas: Annotated[int, Field(ge=1, le=100)] = Field(
        default=1,
        description="With `DURABILITY=replicated`: how many replicas have to confirm a text.",
        examples=["1"],
    )
    replica_timeout_s: Annotated[float, Field(ge=0.001, le=4)] = Field(
        default=1.0,
        description="With `DURABILITY=replicated`: the longest to wait for them; then 503.",
        examples=["1"],
    )
    body_limit_bytes: Annotated[int, Field(ge=1024, le=1048576)] = Field(
        default=65536, description="The longest callback accepted.", examples=["65536"]
    )
    event_limit_bytes: Annotated[int, Field(ge=65536, le=67108864)] = Field(
        default=4194304,
        description="The longest event of Open Connectors accepted: a page of all texts since the "
        "last one.",
        examples=["4194304"],
    )
    lease_ttl_s: Annotated[float, Field(ge=1, le=300)] = Field(
        default=4.0,
        description="How long a partition stays with a worker that went silent. Longer is better "
        "where machines stand still for seconds (`parley_leases_lost_total` grows).",
        examples=["4"],
    )
    handler_timeout_s: Seconds = Field(
        default=30.0, description="The longest a handler may take.", examples=["30"]
    )
    handler_concurrency: Count = Field(
        default=64, description="Handlers at once in a process.", examples=["64"]
    )
    handler_attempts: Count = Field(
        default=5, description="Attempts before a message is a dead letter.", examples=["5"]
    )
    long_replies: Annotated[Literal["split", "refuse"], BeforeValidator(lower)] = Field(
        default="split",
        description="What becomes of a reply of more than 1,600 characters: `split` sends it as "
        "several, split at blanks, pictures with the first. `refuse` fails its "
        "handler.",
        examples=["refuse"],
    )
    send_timeout_s: Seconds = Field(
        default=15.0, description="The longest to wait for the connector's answer.", examples=["15"]
    )
    send_concurrency: Count = Field(
        default=128, description="Replies on their way at once in a process.", examples=["128"]
    )
    send_attempts: Count = Field(
        default=8, description="Attempts before a reply is a dead letter.", examples=["8"]
    )
    opt_out_words: Words = Field(
        default="STOP STOPALL UNSUBSCRIBE END QUIT CANCEL REVOKE OPTOUT START UNSTOP YES HELP INFO",
        description="Words that Twilio answers itself on a long code; START, UNSTOP and YES from "
        "somebody who is opted out. `none` if it has been told not to.",
        examples=["STOP START HELP"],
    )
    segments_per_second: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        default=0.0,
        description="SMS segments a second that each of our numbers may send, over all processes; "
        "0 leaves the pace to Twilio's queue.",
        examples=["1"],
    )
    retry_first_s: Seconds = Field(
        default=1.0,
        description="The longest wait before the first retry. Waits grow exponentially, with full "
        "jitter.",
        examples=["1"],
    )
    retry_max_s: Seconds = Field(
        default=300.0,
        description="The longest wait before any retry.",
        examples=["300"],
    )
    in_doubt: Annotated[Literal["hold", "resend"], BeforeValidator(lower)] = Field(
        default="hold",
        description="What becomes of a reply that may have been sent, when the connector's log "
        "can't tell: `hold` keeps it as a dead letter, `resend` sends it again.",
        examples=["hold"],
    )

    log_format: Annotated[Literal["auto", "console", "json"], BeforeValidator(lower)] = Field(
        default="auto",
        description="The form of the log: `console` or `json`; `auto` is console on a terminal, "
        "else json.",
        examples=["json"],
    )
    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(lower)] = (
        Field(
            default="info",
            description="The least level that is logged: `debug`, `info`, `warning` or `error`.",
            examples=["info"],
        )
    )
    log_texts: bool = Field(
        default=True,
        description="Whether each text handled and each reply sent leaves a line in the log, up "
        "to 20 ms late; never what they say.",
        examples=["false"],
    )
    config_dir: Path = Field(
        default=Path("config"),
        description="The folder of `service.toml`, `instance.json`, `message.json` and "
        "`handlers.py`: `./config` if it has a service.toml, else the packaged copy. "
        "Environment only.",
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
    def is_set_up(self) -> bool:
        """Whether there is all that it takes to take and to answer a text."""
        return all(getattr(self, each) for each in SET_UP_BY)

    @property
    def secret_keys(self) -> tuple[str, ...]:
        """The sealing keys, newest first: the first seals, all of them unseal."""
        return tuple(key.strip() for key in self.secret_key.get_secret_value().split(","))

    @property
    def auth_tokens(self) -> tuple[str, ...]:
        """The tokens a callback may be signed with, the primary one first."""
        tokens = (self.twilio_auth_token, self.twilio_auth_token_secondary)
        return tuple(token.get_secret_value() for token in tokens if token)

    @property
    def connector_proxy(self) -> str:
        """The address of the proxy on the way to the connector, its login included; "" for none."""
        scheme, _, rest = self.open_connectors_base_url.partition("://")
        proxy = self.https_proxy if scheme == "https" else self.http_proxy
        host = rest.partition("/")[0]
        if proxy is None or proxy_bypass_environment(host, {"no": self.no_proxy or ""}):
            return ""
        return proxy.get_secret_value()

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
