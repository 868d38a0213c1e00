"""Where settings come from, what is refused, and what is shown of them."""

from __future__ import annotations

import asyncio
import contextlib
import re
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from service.errors import SettingsError
from service.settings.loading import (
    MASK,
    SECRETS,
    SettingRow,
    explain_settings,
    load_part,
    load_settings,
)
from service.settings.sources import config_dir
from service.settings.table import Settings
from service.store.connection import connect

SHIPPED = Path(__file__).parent.parent.parent / "config"

COMPLETE = {
    "HOME": "/home/nobody",
    "PUBLIC_URL": "https://sms.example.com",
    "TWILIO_ACCOUNT_SID": "AC0123456789abcdef0123456789abcdef",
    "TWILIO_AUTH_TOKEN": "token-of-the-account",
    "TWILIO_SENDER": "+14155550100",
    "OPEN_CONNECTORS_BASE_URL": "https://api.example.com/elements/api-v2",
    "OPEN_CONNECTORS_USER_SECRET": "user-secret=",
    "OPEN_CONNECTORS_ORGANIZATION_SECRET": "organization-secret",
    "SECRET_KEY": "0123456789abcdef0123456789abcdef",
}

MakeFolder = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path) -> MakeFolder:
    """Make a config folder with the given service.toml and an empty handlers.py."""

    def make(text: str = "") -> Path:
        (tmp_path / "service.toml").write_text(text, encoding="utf-8")
        (tmp_path / "handlers.py").write_text("", encoding="utf-8")
        return tmp_path

    return make


def problems_of(place: Path, environ: dict[str, str]) -> tuple[str, ...]:
    """Load settings that can't be loaded, and return what was wrong."""
    with pytest.raises(SettingsError) as caught:
        load_settings(place, environ)
    return caught.value.problems


def row_of(rows: tuple[SettingRow, ...], name: str) -> SettingRow:
    """Pick the row of one setting."""
    return next(row for row in rows if row.name == name)


# --- where values come from ------------------------------------------------------------------


def test_a_complete_environment_is_enough(folder: MakeFolder) -> None:
    """Otherwise a container without files of its own can't start."""
    settings = load_settings(folder(), COMPLETE)

    assert settings.public_url == "https://sms.example.com"
    assert settings.auth_tokens == ("token-of-the-account",)
    assert settings.redis_url is None
    assert (settings.port, settings.partitions, settings.in_doubt) == (8080, 16, "hold")


def test_each_source_is_stronger_than_the_one_before(folder: MakeFolder) -> None:
    """Otherwise an operator changes a value and the service keeps the old one."""
    place = folder("port = 1001")
    secret = place / "port"
    secret.write_text("1003\n", encoding="utf-8")

    file_only = load_settings(place, COMPLETE)
    environment = load_settings(place, COMPLETE | {"PORT": "1002"})
    secret_file = load_settings(place, COMPLETE | {"PORT": "1002", "PORT_FILE": str(secret)})

    assert (file_only.port, environment.port, secret_file.port) == (1001, 1002, 1003)


def test_the_command_line_is_stronger_than_a_secret_file_and_is_named(
    folder: MakeFolder, tmp_path: Path
) -> None:
    """Otherwise `--port 99999` is said to come from an environment that holds no such thing."""
    (tmp_path / "port").write_text("7000\n", encoding="utf-8")
    environ = COMPLETE | {"PORT_FILE": str(tmp_path / "port")}

    assert load_settings(folder(), environ, {"port": "9000"}).port == 9000
    with pytest.raises(SettingsError) as caught:
        load_settings(folder(), environ, {"port": "99999"})

    assert caught.value.problems == ("PORT must be at most 65535 (--port); example: PORT=8080",)


def test_a_table_in_the_file_is_the_beginning_of_its_settings_names(folder: MakeFolder) -> None:
    """Otherwise a file grouped into tables is refused."""
    environ = {name: value for name, value in COMPLETE.items() if name != "TWILIO_SENDER"}
    place = folder('port = 9\n\n[twilio]\nsender = "+14155550123"\n')

    assert load_settings(place, environ).twilio_sender == "+14155550123"
    source = row_of(explain_settings(place, environ), "TWILIO_SENDER").source
    assert source == f"{place}/service.toml:4"


def test_one_trailing_newline_of_a_secret_file_is_not_part_of_the_secret(
    folder: MakeFolder,
) -> None:
    """Otherwise every signature is refused because an editor ended the file with a newline."""
    place = folder()
    secret = place / "token"
    secret.write_text("from-a-file\r\n", encoding="utf-8")

    settings = load_settings(place, COMPLETE | {"TWILIO_AUTH_TOKEN_FILE": str(secret)})

    assert settings.twilio_auth_token.get_secret_value() == "from-a-file"


@pytest.mark.parametrize("content", [None, b"", b"\n", b"\xff\xfe"], ids=repr)
def test_a_secret_file_that_gives_no_secret_is_a_problem_that_names_it(
    folder: MakeFolder, content: bytes | None
) -> None:
    """Otherwise the service starts with the weaker value of the environment, or with none."""
    place = folder()
    secret = place / "token"
    if content is not None:
        secret.write_bytes(content)

    (problem,) = problems_of(place, COMPLETE | {"TWILIO_AUTH_TOKEN_FILE": str(secret)})

    assert problem.startswith("TWILIO_AUTH_TOKEN ")
    assert str(secret) in problem


def test_an_empty_variable_counts_as_not_set(folder: MakeFolder) -> None:
    """Otherwise `REDIS_URL=` of a compose file is an address that can't be reached."""
    settings = load_settings(folder("port = 1001"), COMPLETE | {"REDIS_URL": "", "PORT": " "})

    assert settings.redis_url is None
    assert settings.port == 1001


def test_a_relative_handlers_file_is_meant_from_where_it_is_written(
    folder: MakeFolder,
) -> None:
    """Otherwise the service finds its handlers from one working directory and not another."""
    place = folder('handlers = "mine.py"')
    (place / "mine.py").write_text("", encoding="utf-8")

    assert load_settings(place, COMPLETE).handlers == str(place / "mine.py")
    module = load_settings(place, COMPLETE | {"HANDLERS": "shop.handlers"})
    assert module.handlers == "shop.handlers"


def test_the_data_folder_does_not_depend_on_the_working_directory(folder: MakeFolder) -> None:
    """Otherwise a start from another directory does not find the messages it had accepted."""
    place = folder()

    assert load_settings(place, COMPLETE).data_dir == Path("/home/nobody/.local/share/parley")
    xdg = load_settings(place, COMPLETE | {"XDG_DATA_HOME": "/xdg"})
    assert xdg.data_dir == Path("/xdg/parley")


def test_the_config_folder_is_chosen_in_the_documented_order(
    folder: MakeFolder, tmp_path: Path
) -> None:
    """Otherwise an installed service ignores the operator's files or needs a checkout."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with contextlib.chdir(elsewhere):
        assert config_dir({}) == SHIPPED

        (elsewhere / "config").mkdir()
        assert config_dir({}) == SHIPPED, "a folder without service.toml is somebody else's"

        (elsewhere / "config" / "service.toml").touch()
        assert config_dir({}) == elsewhere / "config"
        assert config_dir({"CONFIG_DIR": str(folder())}) == tmp_path


def test_whether_the_internal_port_was_chosen_is_known(folder: MakeFolder) -> None:
    """Otherwise a second service on the machine can't step aside, or one steps aside unasked."""
    place = folder()

    assert not load_settings(place, COMPLETE).internal_port_given
    assert load_settings(place, COMPLETE | {"INTERNAL_PORT": "8081"}).internal_port_given


# --- what is refused -------------------------------------------------------------------------


def test_every_missing_setting_is_named_at_once_with_an_example(folder: MakeFolder) -> None:
    """Otherwise an operator starts the service nine times to learn nine names."""
    problems = problems_of(folder(), {})

    required = [name for name in COMPLETE if name != "HOME"]
    assert [problem.split()[0] for problem in problems] == required
    assert all(f"; example: {name}=" in text for name, text in zip(required, problems, strict=True))


@pytest.mark.parametrize("name", list(Settings.model_fields))
def test_every_setting_has_an_example_and_a_description(name: str) -> None:
    """Otherwise a problem with it is reported without a way out."""
    field = Settings.model_fields[name]

    assert field.examples
    assert (field.description or "").endswith(".")


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("PORT", "8081", "INTERNAL_PORT must differ from PORT (8081)"),
        ("DEDUPE_WINDOW_S", "3600", "BACKFILL_MAX_S must not be more than DEDUPE_WINDOW_S (3600)"),
        ("RETRY_FIRST_S", "400", "RETRY_MAX_S must not be less than RETRY_FIRST_S (400)"),
    ],
)
def test_a_default_that_goes_with_no_other_setting_is_not_given_as_its_own_example(
    folder: MakeFolder, name: str, value: str, says: str
) -> None:
    """Whoever followed it would be told the same again."""
    (problem,) = problems_of(folder(), COMPLETE | {name: value})

    assert problem.startswith(says)
    assert "example" not in problem
    assert problem.endswith(f"; set {says.split(maxsplit=1)[0]}")


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("PUBLIC_URL", "http://sms.example.com", "must begin with https://"),
        ("PUBLIC_URL", "sms.example.com", "is not an address"),
        ("PUBLIC_URL", "https://", "is not an address"),
        ("PUBLIC_URL", "https://sms.example.com:port", "is not an address"),
        ("PUBLIC_URL", "https://sms.example\n.com", "a newline"),
        ("PUBLIC_URL", "https://sms.example.com#rc=5", '"?" or "#"'),
        ("PUBLIC_URL", "https://sms.example.com?a=b", '"?" or "#"'),
        ("PUBLIC_URL", "https://user:p/w@sms.example.com", "is not an address"),
        ("PUBLIC_URL", "https://user:p#w@sms.example.com", "is not an address"),
        ("OPEN_CONNECTORS_BASE_URL", "https://user:pw@api.example.com", "a user or a password"),
        ("PUBLIC_URL", "https://sms.example.com/callbacks/twilio", "must end before"),
        ("OPEN_CONNECTORS_BASE_URL", "http://api.example.com", "must begin with https://"),
        (
            "OPEN_CONNECTORS_BASE_URL",
            "https://api.example.com",
            "must end with /elements/api-v2; write https://api.example.com/elements/api-v2",
        ),
        (
            "OPEN_CONNECTORS_BASE_URL",
            "https://api.example.com/elements/",
            "; write https://api.example.com/elements/api-v2",
        ),
        (
            "OPEN_CONNECTORS_BASE_URL",
            "https://api.example.com/sap/elements/api-v2/instances",
            "; write https://api.example.com/sap/elements/api-v2 ",
        ),
        ("REDIS_URL", "http://localhost", "redis://, rediss://"),
        ("REDIS_URL", "localhost:6379", "redis://, rediss://"),
        ("REDIS_URL", "redis://", "names no server"),
        ("REDIS_URL", "redis+cluster://one:6379,two:x", "not host:port"),
        ("REDIS_URL", "redis+sentinel://one:26379,,two/parley", "not host:port"),
        ("REDIS_URL", "redis+sentinel://one:26379", "names no service"),
        ("REDIS_URL", "redis://one:70000", "not host:port"),
        ("REDIS_URL", "redis://one:x/0", "not host:port"),
        ("REDIS_URL", "redis://one/zero", "no number"),
        ("REDIS_URL", "redis+sentinel://one/mymaster/zero", "no number"),
        ("REDIS_URL", "redis://one/0?retries=3", "none of Redis's"),
        ("REDIS_URL", "redis://one/0?db", "not name=value"),
        ("REDIS_URL", "redis://:pass/7@one", "%2F"),
        ("REDIS_URL", "rediss://:pass#7@one", "%23"),
        ("REDIS_URL", "redis+cluster://:pass?7@one,two", "%3F"),
        ("REDIS_URL", "redis+sentinel://:pa@ss@one/mymaster", "%40"),
        ("REDIS_URL", "redis://one/0?password=a@b", "%40"),
        ("REDIS_URL", "redis://one/0?password=a#b", "%23"),
        ("REDIS_URL", "unix://:pa/ss@/run/redis.sock", "unix:///path"),
        ("REDIS_URL", "unix://run/redis.sock", "unix:///path"),
        ("DURABILITY", "disk", "must be 'memory', 'fsync' or 'replicated'"),
        ("TWILIO_ACCOUNT_SID", "SK0123456789abcdef0123456789abcdef", "account SID"),
        ("TWILIO_AUTH_TOKEN", "two words", "a blank"),
        ("TWILIO_SENDER", "4155550100", "is not a sender"),
        ("TWILIO_SENDER", "+1 (415) 555-0100", "is not a sender"),
        ("OPEN_CONNECTORS_USER_SECRET", "User abc=, Organization def", "a comma"),
        ("SECRET_KEY", "short", "at least 32"),
        ("SECRET_KEY", COMPLETE["SECRET_KEY"] + ",short", "at least 32"),
        ("HANDLERS", "/nowhere/handlers.py", "is not there"),
        ("HANDLERS", str(Path(__file__).parent), "names a folder"),
        ("HANDLERS", str(SHIPPED / "service.toml"), "does not end in .py"),
        ("HANDLERS", ".relative", "nor a module's name"),
        ("PORT", "http", "is not a whole number"),
        ("PORT", "65536", "at most 65535"),
        ("INTERNAL_PORT", "8080", "must differ from PORT"),
        ("PARTITIONS", "0", "at least 1"),
        ("HANDLER_TIMEOUT_S", "0", "more than 0"),
        ("HANDLER_TIMEOUT_S", "inf", "is not a number"),
        ("IN_DOUBT", "maybe", "'hold' or 'resend'"),
        ("INSTANCE_TAG", "<b>parley</b>", '"<"'),
        ("CONNECTOR_ELEMENT", "twilio3", "'twilio' or 'twiliov2'"),
        ("CALLBACK_RETRIES", "6", "at most 5"),
        ("INTERNAL_HOSTS", "parley:8081", "not a list of host names"),
        ("INTERNAL_HOSTS", "*.svc", "not a list of host names"),
        ("CONSOLE_HOSTS", "parley:8081", "not a list of host names"),
        ("CONSOLE_HOSTS", "https://parley.example.com", "not a list of host names"),
        ("CONSOLE", "maybe", "'on' or 'off'"),
        ("CONSOLE_TLS", "1", "'on' or 'off'"),
        ("CALLBACK_RETRY_POLICY", "5xx,never", "must be all, or some of 4xx,5xx,ct,rt"),
        ("CALLBACK_RETRY_POLICY", ",", "must be all, or some of 4xx,5xx,ct,rt"),
    ],
)
def test_a_malformed_setting_is_named_with_what_is_wrong(
    folder: MakeFolder, name: str, value: str, says: str
) -> None:
    """Otherwise the mistake shows when the first customer writes, or never by its name."""
    (problem,) = problems_of(folder(), COMPLETE | {name: value})

    assert problem.startswith(f"{name} ")
    assert says in problem
    assert f"example: {name}=" in problem


@pytest.mark.parametrize(
    ("name", "value", "field", "kept"),
    [
        ("PUBLIC_URL", " https://sms.example.com/ \n", "public_url", "https://sms.example.com"),
        ("PUBLIC_URL", "http://127.0.0.1:9000", "public_url", "http://127.0.0.1:9000"),
        ("PUBLIC_URL", "http://localhost/sms/", "public_url", "http://localhost/sms"),
        ("PUBLIC_URL", "http://[::1]:80", "public_url", "http://[::1]:80"),
        (
            "OPEN_CONNECTORS_BASE_URL",
            "https://api.example.com/elements/api-v2/\n",
            "open_connectors_base_url",
            "https://api.example.com/elements/api-v2",
        ),
        ("TWILIO_SENDER", "72975", "twilio_sender", "72975"),
        ("TWILIO_SENDER", "whatsapp:+14155550100", "twilio_sender", "whatsapp:+14155550100"),
        ("TWILIO_SENDER", "ACME Bank", "twilio_sender", "ACME Bank"),
        ("LOG_LEVEL", "INFO", "log_level", "info"),
        ("SEGMENTS_PER_SECOND", "0.5", "segments_per_second", 0.5),
        ("PORT", "0", "port", 0),
        ("LOG_TEXTS", "False", "log_texts", False),
    ],
)
def test_what_people_really_write_is_accepted(
    folder: MakeFolder, name: str, value: str, field: str, kept: object
) -> None:
    """Otherwise a correct setting, copied with a blank or a slash, stops the start."""
    assert getattr(load_settings(folder(), COMPLETE | {name: value}), field) == kept


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1:6379/0",
        "rediss://user:pass@redis.example.com",
        "unix:///run/redis.sock?db=1",
        "redis+sentinel://one:26379,two:26379/mymaster/0",
        "redis+cluster://one:6379,two:6379",
    ],
)
def test_every_kind_of_redis_can_be_named(folder: MakeFolder, url: str) -> None:
    """Otherwise a deployment on Sentinel or Cluster can't be configured."""
    redis_url = load_settings(folder(), COMPLETE | {"REDIS_URL": url}).redis_url

    assert redis_url is not None
    assert redis_url.get_secret_value() == url


def test_problems_of_all_sources_are_reported_together(folder: MakeFolder) -> None:
    """Otherwise putting one file right only shows the next mistake."""
    place = folder('port = "x"\nprocesses = true\nretry_first_s = 500\n')

    problems = problems_of(place, COMPLETE | {"LOG_LEVEL": "loud", "SECRET_KEY_FILE": "/nowhere"})

    assert [problem.split()[0] for problem in problems] == [
        "SECRET_KEY",
        "PORT",
        "PROCESSES",
        "RETRY_MAX_S",
        "LOG_LEVEL",
    ]
    assert f"({place}/service.toml:1)" in problems[1]


def test_an_unknown_name_in_the_file_is_refused_with_line_and_nearest_name(
    folder: MakeFolder,
) -> None:
    """Otherwise a misspelt setting is silently without effect."""
    place = folder('\n[twilio]\nsendr = "+14155550123"\n')

    (problem,) = problems_of(place, COMPLETE)

    assert problem == (
        f"{place}/service.toml:3: unknown setting twilio_sendr; the nearest name is twilio_sender"
    )


@pytest.mark.parametrize("text", ["port =\n", "port = 1\nport = 2\n", "port"], ids=repr)
def test_a_file_that_is_no_toml_is_named_with_its_line(folder: MakeFolder, text: str) -> None:
    """Otherwise the start fails with a traceback of a parser."""
    place = folder(text)

    (problem,) = problems_of(place, COMPLETE)

    assert re.match(rf"{place}/service\.toml:\d+: ", problem)


def test_a_config_folder_that_is_not_there_is_a_problem() -> None:
    """Otherwise a misspelt CONFIG_DIR starts the service with nothing but defaults."""
    problems = problems_of(config_dir({"CONFIG_DIR": "/nowhere"}), COMPLETE)

    assert any(problem.startswith("CONFIG_DIR names no folder: /nowhere") for problem in problems)


def test_a_variable_that_looks_like_a_missing_one_is_pointed_at(folder: MakeFolder) -> None:
    """Otherwise people stare at a variable that is set under almost the right name."""
    environ = {name: value for name, value in COMPLETE.items() if name != "TWILIO_AUTH_TOKEN"}

    (problem,) = problems_of(folder(), environ | {"TWILIO_AUTHTOKEN": "x"})

    assert "TWILIO_AUTHTOKEN is set" in problem


def test_a_switch_is_written_in_the_file_as_toml_writes_it(folder: MakeFolder) -> None:
    """Otherwise `log_texts = false` is refused, and with quotes around it looks like a text."""
    place = folder("log_texts = false\n")

    assert load_settings(place, COMPLETE).log_texts is False
    assert row_of(explain_settings(place, COMPLETE), "LOG_TEXTS").shown == "false"
    assert row_of(explain_settings(folder(), COMPLETE), "LOG_TEXTS").shown == "true"
    (problem,) = problems_of(place, COMPLETE | {"LOG_TEXTS": "perhaps"})
    assert problem.startswith("LOG_TEXTS must be true or false (environment)")


# --- what is shown ---------------------------------------------------------------------------

OBVIOUS = "geheim-geheim-geheim-geheim-geheim"

ascii_or_not = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
"""What an environment variable can hold."""


@pytest.mark.parametrize("field", sorted(SECRETS))
def test_a_secret_is_in_nothing_that_is_printed(folder: MakeFolder, field: str) -> None:
    """Otherwise it ends in a log, a traceback or a screenshot of `parley settings`."""
    forms = {"redis_url": f"redis://user:{OBVIOUS}@localhost", "twilio_shared_keys": f"1:{OBVIOUS}"}
    value = forms.get(field, OBVIOUS)
    settings = load_settings(folder(), COMPLETE | {field.upper(): value})
    rows = explain_settings(folder(), COMPLETE | {field.upper(): value})

    shown = f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()} {rows}"
    assert OBVIOUS not in shown
    assert MASK in row_of(rows, field.upper()).shown


@pytest.mark.parametrize(
    "password", ["lotl", "axo%40lotl", "axo:lotl", "lotl/", "axo#lotl", "axo?lotl"]
)
def test_the_password_that_twilio_logs_in_with_is_in_nothing_that_is_printed(
    folder: MakeFolder, password: str
) -> None:
    """The proxy's password would end in a log or a screenshot of `parley settings`."""
    environ = COMPLETE | {"PUBLIC_URL": f"https://user:{password}@sms.example.com/x"}
    try:
        settings = load_settings(folder(), environ)
        said = f"{settings!r} {settings}"
        assert settings.public_url == environ["PUBLIC_URL"]
    except SettingsError as error:
        said = f"{error!r} {error}"
    assert "lotl" not in f"{said} {explain_settings(folder(), environ)}"


def test_all_secrets_are_known_as_such() -> None:
    """Otherwise a new secret is printed by `parley settings`."""
    named = {name for name in Settings.model_fields if re.search("secret|token|key", name)}

    assert named | {"redis_url", "https_proxy", "http_proxy"} == SECRETS


@given(
    name=st.sampled_from([field.upper() for field in sorted(SECRETS)]),
    secret=st.text(ascii_or_not, min_size=12, max_size=15),
)
def test_a_refused_secret_is_not_quoted(name: str, secret: str) -> None:
    """Otherwise the error about a malformed secret publishes it."""
    environ = COMPLETE | {"HANDLERS": "some.module", name: f"{secret}§{secret}"}

    with pytest.raises(SettingsError) as caught:
        load_settings(SHIPPED, environ)

    assert f"{secret}§" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


MARK = "PASSxZq"
ADDRESSES = (
    ("REDIS_URL", "{scheme}://:{secret}@one:6379/0"),
    ("REDIS_URL", "{scheme}://me:{secret}@one,two:1/mymaster/0?tls=true"),
    ("REDIS_URL", "{scheme}://{secret}@/run/redis.sock"),
    ("REDIS_URL", "{scheme}://one:{secret}"),
    ("REDIS_URL", "{scheme}://one/{secret}"),
    ("REDIS_URL", "{scheme}://one?{secret}"),
    ("REDIS_URL", "{scheme}://one?{secret}=1"),
    ("REDIS_URL", "{scheme}://one/0?password={secret}"),
    ("REDIS_URL", "{scheme}://one/0?p%61ssword={secret}"),
    ("REDIS_URL", "{scheme}://one/m?sentinel_password={secret}&socket_timeout=x"),
    ("HTTPS_PROXY", "http://me:{secret}@proxy.example.com:3128"),
    ("HTTPS_PROXY", "{secret}@proxy.example.com"),
    ("HTTP_PROXY", "{scheme}://me:{secret}"),
    ("PUBLIC_URL", "https://me:{secret}@sms.example.com"),
    ("PUBLIC_URL", "https://sms.example.com/a?token={secret}"),
    ("OPEN_CONNECTORS_BASE_URL", "https://{secret}@api.example.com/elements/api-v2"),
    ("OPEN_CONNECTORS_BASE_URL", "https://api.example.com:{secret}/elements/api-v2"),
)


@given(
    shape=st.sampled_from(ADDRESSES),
    scheme=st.sampled_from(["redis", "rediss", "unix", "redis+sentinel", "redis+cluster", "http"]),
    before=st.text("/?#@:%[]\\&=a1 ,é", max_size=3),
    after=st.text("/?#@:%[]\\&=a1 ,é", max_size=3),
)
def test_an_address_that_is_refused_is_not_quoted(
    shape: tuple[str, str], scheme: str, before: str, after: str
) -> None:
    """A password with a slash in it would be in the log of every start that fails."""
    name, form = shape
    value = form.format(scheme=scheme, secret=f"{before}{MARK}{after}")
    environ = COMPLETE | {"HANDLERS": "some.module", name: value}

    told = refusal_of(environ)
    assert MARK not in told
    assert not told or name in told
    if name == "REDIS_URL" and row_of(explain_settings(SHIPPED, environ), name).problem:
        assert MARK not in row_of(explain_settings(SHIPPED, environ), name).shown


def refusal_of(environ: dict[str, str]) -> str:
    """Return the traceback of a start with these settings, "" when they are taken."""

    async def use(url: str) -> None:
        await connect(url).aclose()

    try:
        url = load_settings(SHIPPED, environ).redis_url
        if url is not None:
            asyncio.run(use(url.get_secret_value()))
    except SettingsError as error:
        return "".join(traceback.format_exception(error))
    return ""


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("REDIS_URL", f"redis://me:{MARK}@one:1/0", f"redis://{MASK}@one:1/0"),
        ("REDIS_URL", f"redis://one?password={MARK}&db=3", f"redis://one?password={MASK}&db=3"),
        ("PUBLIC_URL", f"https://a:b@c/x?{MARK}", f"https://{MASK}@c/x?{MASK}"),
        ("PUBLIC_URL", f"https://c/x?t={MARK}#{MARK}", f"https://c/x?t={MASK}"),
        ("HANDLERS", "/no/file?.py", "/no/file?.py"),
    ],
)
def test_of_an_address_that_is_shown_the_secrets_are_not(name: str, value: str, shown: str) -> None:
    """`parley settings` is what people paste when they ask for help."""
    rows = explain_settings(SHIPPED, COMPLETE | {name: value})
    assert row_of(rows, name).shown == shown


def test_each_value_is_shown_with_where_it_came_from(folder: MakeFolder) -> None:
    """Otherwise nobody finds out which of four places sets a value."""
    place = folder('# a comment\nlog_level = "debug"\n')
    key = place / "key"
    key.write_text(COMPLETE["SECRET_KEY"] + "\n", encoding="utf-8")

    rows = explain_settings(place, COMPLETE | {"SECRET_KEY_FILE": str(key)})

    assert [row.name for row in rows] == [field.upper() for field in Settings.model_fields]
    assert not any(row.problem for row in rows)
    source = f"{place}/service.toml:2"
    means = Settings.model_fields["log_level"].description or ""
    assert row_of(rows, "LOG_LEVEL") == SettingRow("LOG_LEVEL", "debug", source, "", means)
    assert row_of(rows, "SECRET_KEY").shown == f"{MASK} (32 characters)"
    assert row_of(rows, "SECRET_KEY").source == f"file {key}"
    assert row_of(rows, "PUBLIC_URL").source == "environment"
    assert row_of(rows, "PORT").source == "default"
    assert row_of(rows, "REDIS_URL").shown == "not set"


def test_settings_that_are_wrong_are_explained_too(folder: MakeFolder) -> None:
    """Otherwise `parley settings` fails exactly when it is needed."""
    rows = explain_settings(folder("colour = 1\n"), {"PORT": "http"})

    assert "unknown setting colour" in rows[0].problem
    assert row_of(rows, "PUBLIC_URL").shown == "missing"
    assert row_of(rows, "PORT").shown == "http"
    assert "whole number" in row_of(rows, "PORT").problem


def test_the_settings_can_not_be_changed(folder: MakeFolder) -> None:
    """Otherwise one part of the service changes what another was started with."""
    settings = load_settings(folder(), COMPLETE)

    with pytest.raises(ValidationError):
        settings.port = 1


# --- the file that ships ---------------------------------------------------------------------


def test_the_shipped_file_names_every_setting_that_is_no_secret() -> None:
    """Otherwise an operator has to read the code to learn what can be set."""
    text = (SHIPPED / "service.toml").read_text(encoding="utf-8")
    named = set(re.findall(r"^# (\w+) = ", text, flags=re.MULTILINE))

    assert named == (set(Settings.model_fields) - SECRETS - {"config_dir"}) | {"redis_url"}


def test_the_defaults_in_the_shipped_file_are_the_real_ones(tmp_path: Path) -> None:
    """Otherwise the file that explains the settings is wrong about them."""
    text = (SHIPPED / "service.toml").read_text(encoding="utf-8")
    values = re.sub(r"^# (\w+ = )", r"\1", text, flags=re.MULTILINE)
    (tmp_path / "handlers.py").touch()
    (tmp_path / "service.toml").write_text(values, encoding="utf-8")

    settings = load_settings(tmp_path, COMPLETE)

    examples_only = {"public_url", "redis_url", "data_dir", "handlers", "config_dir"}
    for name, field in Settings.model_fields.items():
        if not field.is_required() and name not in examples_only | SECRETS:
            assert getattr(settings, name) == field.default, name


def test_shared_keys_are_read_by_their_ids(folder: MakeFolder) -> None:
    """A key that is read wrongly refuses every callback."""
    environ = COMPLETE | {"TWILIO_SHARED_KEYS": " SK1:a:b , SK2:c "}
    assert load_settings(folder(), environ).shared_keys == {"SK1": "a:b", "SK2": "c"}
    assert load_settings(folder(), COMPLETE).shared_keys == {}


@pytest.mark.parametrize("keys", ["SK1", "SK1:", ":secret", "SK1:a,,SK2:b", "SK1:a,", "SK1:a b"])
def test_malformed_shared_keys_are_named_at_the_start(folder: MakeFolder, keys: str) -> None:
    """Left out in silence, the callbacks they sign would be refused."""
    with pytest.raises(SettingsError, match="TWILIO_SHARED_KEYS is not a list"):
        load_settings(folder(), COMPLETE | {"TWILIO_SHARED_KEYS": keys})


# --- a part of them --------------------------------------------------------------------------


def test_a_part_is_read_as_a_start_reads_it_whatever_the_others_are(folder: MakeFolder) -> None:
    """Handlers are tested with other settings than they run with, or not at all without secrets."""
    place = folder('handlers = "mine.py"\nopt_out_words = "stop halt"\n')
    (place / "mine.py").touch()
    environ = {"HANDLER_TIMEOUT_S": "2.5", "PARTITIONS": "many", "SECRET_KEY": "short"}
    fields = ("handlers", "handler_timeout_s", "handler_attempts", "opt_out_words", "twilio_sender")

    part = load_part(fields, place, environ)
    whole = load_settings(place, {**COMPLETE, "HANDLER_TIMEOUT_S": "2.5"})

    assert part.twilio_sender == ""
    assert part.words_left_to_twilio == {"STOP", "HALT"}
    for field in set(fields) - {"twilio_sender"}:
        assert getattr(part, field) == getattr(whole, field)
    assert load_part(fields, place, COMPLETE).twilio_sender == COMPLETE["TWILIO_SENDER"]


def test_what_is_wrong_with_a_part_is_refused(folder: MakeFolder) -> None:
    """A mistyped number of attempts is taken for the default."""
    place = folder("handler_attempt = 3\n")
    with pytest.raises(SettingsError) as caught:
        load_part(["handler_attempts"], place, {"HANDLER_ATTEMPTS": "no", "PARTITIONS": "many"})

    unknown, wrong = caught.value.problems
    assert "unknown setting handler_attempt; the nearest name is handler_attempts" in unknown
    assert wrong.startswith("HANDLER_ATTEMPTS is not a whole number (environment)")


# --- on the way to the connector -------------------------------------------------------------

API = "https://api.example.com/elements/api-v2"
PROXY = "http://me:secret@proxy.example.com:3128"


@pytest.mark.parametrize(
    ("environ", "proxy"),
    [
        ({}, ""),
        ({"HTTPS_PROXY": PROXY}, PROXY),
        ({"https_proxy": PROXY}, PROXY),
        ({"HTTPS_PROXY": PROXY, "https_proxy": "http://other:1"}, PROXY),
        ({"HTTPS_PROXY": "proxy:3128"}, "http://proxy:3128"),
        ({"HTTP_PROXY": PROXY}, ""),
        (
            {
                "HTTP_PROXY": PROXY,
                "OPEN_CONNECTORS_BASE_URL": "http://127.0.0.1:1/elements/api-v2",
            },
            PROXY,
        ),
        ({"HTTPS_PROXY": PROXY, "NO_PROXY": "a.b, .example.com"}, ""),
        ({"HTTPS_PROXY": PROXY, "no_proxy": "api.example.com"}, ""),
        ({"HTTPS_PROXY": PROXY, "NO_PROXY": "*"}, ""),
        ({"HTTPS_PROXY": PROXY, "NO_PROXY": "ample.com,localhost"}, PROXY),
    ],
    ids=str,
)
def test_the_proxy_is_the_one_that_other_programs_would_take(
    environ: dict[str, str], proxy: str
) -> None:
    """Behind a company's proxy no reply would leave."""
    base = {"OPEN_CONNECTORS_BASE_URL": API, "HANDLERS": "some.module"}
    assert load_settings(SHIPPED, COMPLETE | base | environ).connector_proxy == proxy


@pytest.mark.parametrize("name", ["CONNECTOR_CA_FILE", "SSL_CERT_FILE"])
def test_authorities_that_can_not_be_read_are_told_at_the_start(name: str, tmp_path: Path) -> None:
    """Every reply would fail later, with nothing said but that a certificate is unknown."""
    empty = tmp_path / "empty.pem"
    empty.write_text("no certificate\n")
    for path, what in ((tmp_path / "away.pem", "No such file"), (empty, "holds no certificates")):
        told = refusal_of(COMPLETE | {"HANDLERS": "some.module", name: str(path)})
        assert "CONNECTOR_CA_FILE names a file" in told
        assert str(path) in told
        assert what in told
        assert name in told
