"""The form of single values: what is trimmed, what is refused, and in which words.

Types for `table`, each of them a check; what hangs together with another value is checked there.
"""

from __future__ import annotations

import ipaddress
import re
import ssl
from pathlib import Path
from typing import Annotated
from urllib.parse import parse_qsl, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

CALLBACK_PATH = "/callbacks/twilio"
"""Added to PUBLIC_URL by us; people paste it into PUBLIC_URL, where it would be doubled."""

SECRET_KEY_LENGTH = 32
"""Characters a key needs at least: 128 bits even when it is written in hexadecimal."""


def _trim(value: object) -> object:
    """Drop the blanks and newlines that copying leaves around a value."""
    return value.strip() if isinstance(value, str) else value


def lower(value: object) -> object:
    """Forgive capitals in a word of a fixed list."""
    return value.strip().lower() if isinstance(value, str) else value


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _http_address(url: str, *, login: bool = False) -> str:
    """Check an address that others call or that we call with secrets; drop its trailing slash.

    login: it may hold a user and a password.
    """
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
    if "@" in parts.netloc and not login:
        raise ValueError('must not hold a user or a password ("...@")')
    if "?" in url or "#" in url:
        raise ValueError('must end before any "?" or "#"')
    return url.rstrip("/")


API_PATH = "/elements/api-v2"
"""What every base address of Open Connectors ends with, in every region."""


def _connector_address(url: str) -> str:
    address = _http_address(url)
    if not address.endswith(API_PATH):
        host = address.partition("/elements")[0]
        raise ValueError(f"must end with {API_PATH}; write {host}{API_PATH}")
    return address


def _public_url(url: str) -> str:
    # Twilio logs in with it at a proxy that asks for a password (HTTP Basic).
    address = _http_address(url, login=True)
    if address.endswith(CALLBACK_PATH):
        raise ValueError(f"must end before {CALLBACK_PATH}, which is added to it")
    return address


def _redis_url(secret: SecretStr) -> SecretStr:
    scheme, separator, rest = secret.get_secret_value().partition("://")
    if not separator or scheme not in REDIS_SCHEMES:
        raise ValueError(f"must begin with one of {', '.join(f'{s}://' for s in REDIS_SCHEMES)}")
    place, _, query = _without_login(scheme, rest).partition("?")
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
            raise ValueError(f"ends with a database that is no number, such as /0; {AS_WRITTEN}")
    _check_options(query)
    return secret


def _without_login(scheme: str, rest: str) -> str:
    """Return what follows the login of a Redis address; refuse a login that would end early."""
    login, _, address = rest.rpartition("@")
    if scheme == "unix":
        # What stands before the path is a login or nothing; a path may hold an "@".
        authority, slash, path = rest.partition("/")
        login, at, host = authority.rpartition("@")
        if host or (authority and not at):
            raise ValueError(f"is not unix:///path or unix://user:password@/path; {AS_WRITTEN}")
        address = slash + path
    if re.search(r"[\s/?#@\[\]\\]", login) or "#" in rest:
        raise ValueError(
            f"has a character that ends an address, in its password maybe; {AS_WRITTEN}"
        )
    return address


def _check_options(query: str) -> None:
    try:
        options = parse_qsl(query, strict_parsing=True, keep_blank_values=True) if query else []
    except ValueError:
        raise ValueError(f"has options that are not name=value&name=value; {AS_WRITTEN}") from None
    if not all(REDIS_OPTIONS.fullmatch(name) for name, _ in options):
        raise ValueError(
            "has an option that is none of Redis's, such as db, username, password, "
            f"socket_timeout, ssl_ca_certs or tls; {AS_WRITTEN}"
        )


def _host_and_port(host: str) -> None:
    try:
        parts = urlsplit(f"//{host}")
        named, _ = parts.hostname, parts.port
    except ValueError:
        named = None
    if not named:
        raise ValueError(f"lists a server that is not host:port; {AS_WRITTEN}")


AS_WRITTEN = "in a user or password / ? # @ are written %2F %3F %23 %40"
"""The hint with every error about REDIS_URL that may be about a password. None quotes the address:
where it is malformed, nobody knows which part of it is the password."""

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


def _shared_keys(secret: SecretStr) -> SecretStr:
    if not read_shared_keys(secret.get_secret_value()):
        raise ValueError("is not a list of <id>:<secret>, separated by commas")
    return secret


def read_shared_keys(text: str) -> dict[str, str]:
    """Read "id:secret,id:secret" into secrets by id; nothing if any part of it is malformed."""
    pairs = [re.fullmatch(r"\s*([!-9;-~]+):([!-~]+)\s*", part) for part in text.split(",")]
    return {pair[1]: pair[2] for pair in pairs if pair} if all(pairs) else {}


def _words(words: str) -> str:
    return " ".join(words.replace(",", " ").upper().split())


def _host_names(text: str) -> str:
    names = text.replace(",", " ").lower().split()
    if not all(re.fullmatch(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?", name) for name in names):
        raise ValueError("is not a list of host names, without ports, separated by commas")
    return " ".join(name.removesuffix(".") for name in names)


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


def _proxy(secret: SecretStr) -> SecretStr:
    """Check the address of a proxy; a bare host:port is one too, as for other programs."""
    address = secret.get_secret_value()
    if "://" not in address:
        address = f"http://{address}"
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in {"http", "https"} or re.search(r"[^!-~]", address):
        raise ValueError(
            "is not http://host:port, with user:password@ before the host or without; "
            "in a user or password / ? # @ are written %2F %3F %23 %40"
        )
    return SecretStr(address)


def _authorities(name: str) -> str:
    try:
        ssl.create_default_context(cafile=name)
    except ssl.SSLError:
        raise ValueError(f"names a file that holds no certificates in PEM form: {name}") from None
    except OSError as error:
        raise ValueError(f"names a file that can't be read: {name}: {error.strerror}") from None
    return name


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


def is_file_name(handlers: str) -> bool:
    """Tell whether HANDLERS names a file; else it is a module's name."""
    return handlers.endswith(".py") or "/" in handlers


def _handlers(handlers: str) -> str:
    path = Path(handlers)
    if not is_file_name(handlers):
        if not all(part.isidentifier() for part in handlers.split(".")):
            raise ValueError("is neither a file that ends in .py nor a module's name")
    elif path.is_dir():
        raise ValueError(f"names a folder: {handlers}; the file in it is meant")
    elif not path.is_file():
        raise ValueError(f"names a file that is not there: {handlers}")
    elif path.suffix != ".py":
        raise ValueError(f"names a file that does not end in .py: {handlers}")
    return handlers


def _plain_name(name: str) -> str:
    # Open Connectors strips HTML from names and tags: what it keeps would not be what we look for.
    if re.search(r"[<>\x00-\x1f]", name):
        raise ValueError('must not hold "<", ">" or a newline')
    return name


Text = Annotated[str, BeforeValidator(_trim)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Port = Annotated[int, Field(ge=0, le=65535)]

ConnectorAddress = Annotated[Text, AfterValidator(_connector_address)]
PublicUrl = Annotated[Text, AfterValidator(_public_url)]
AccountSid = Annotated[Text, AfterValidator(_account_sid)]
SenderAddress = Annotated[Text, AfterValidator(_sender)]
Handlers = Annotated[Text, AfterValidator(_handlers)]
PlainName = Annotated[Text, AfterValidator(_plain_name)]
HostNames = Annotated[Text, AfterValidator(_host_names)]
Words = Annotated[Text, AfterValidator(_words)]
RetryPolicy = Annotated[Text, AfterValidator(_retry_policy)]

SecretText = Annotated[SecretStr, BeforeValidator(_trim)]
RedisUrl = Annotated[SecretText, AfterValidator(_redis_url)]
Secret = Annotated[SecretText, AfterValidator(_credential)]
Proxy = Annotated[SecretText, AfterValidator(_proxy)]
Authorities = Annotated[Text, AfterValidator(_authorities)]
SharedKeys = Annotated[SecretText, AfterValidator(_shared_keys)]
SealingKeys = Annotated[SecretText, AfterValidator(_sealing_keys)]
