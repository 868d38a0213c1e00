"""The phone network: callbacks as Twilio sends them, and what it makes of the answers."""

from __future__ import annotations

import asyncio
from urllib.parse import parse_qs

import pytest
from aiohttp import web
from aiohttp.web_response import Response
from twilio.request_validator import RequestValidator

from service.lab.sandbox.network import Network
from service.lab.sandbox.records import Records
from tests.lab.sandbox.pieces import (
    ACCOUNT,
    AUTH_TOKEN,
    OURS,
    PREFIX,
    THEIRS,
    Callback,
    Door,
    Sandbox,
    twiml,
    wanted,
)

pytestmark = pytest.mark.anyio


def form_of(callback: Callback) -> dict[str, str]:
    """Read a callback's form; a name that came twice fails."""
    pairs = parse_qs(callback.body.decode(), keep_blank_values=True, strict_parsing=True)
    assert all(len(values) == 1 for values in pairs.values())
    return {name: values[0] for name, values in pairs.items()}


def valid(callback: Callback, url: str, token: str = AUTH_TOKEN) -> bool:
    """Let Twilio's own library judge a callback's signature."""
    signature = callback.headers["X-Twilio-Signature"]
    return bool(RequestValidator(token).validate(url, form_of(callback), signature))


@pytest.mark.parametrize("body", ["hello", "", " two  blanks ", "Grüße 👋 a+b&c=d%20\nx", "1=2"])
async def test_a_text_is_a_callback_that_twilios_library_finds_valid(
    sandbox: Sandbox, door: Door, body: str
) -> None:
    """The door would be tested against signatures of our own making."""
    url = f"{door.url}/callbacks/twilio"
    await sandbox.provision(url)

    answer = await sandbox.text(body)

    (callback,) = door.callbacks
    assert (answer["status"], answer["state"], answer["warning"]) == (200, "accepted", "")
    assert valid(callback, url)
    assert not valid(callback, url, "another token")
    assert form_of(callback)["Body"] == body


async def test_a_callback_has_twilios_whole_form_and_headers(sandbox: Sandbox, door: Door) -> None:
    """A parameter the door has not seen before would reach it in production first."""
    await sandbox.provision(door.url)

    answer = await sandbox.text("hello")

    (callback,) = door.callbacks
    form = form_of(callback)
    sid = answer["sid"]
    places = {f"{end}{part}" for end in ("From", "To") for part in ("City", "State", "Zip")}
    assert form.keys() == places | {
        "FromCountry",
        "ToCountry",
        "From",
        "To",
        "Body",
        "AccountSid",
        "ApiVersion",
        "MessageSid",
        "SmsSid",
        "SmsMessageSid",
        "SmsStatus",
        "NumMedia",
        "NumSegments",
    }
    assert form["MessageSid"] == form["SmsSid"] == form["SmsMessageSid"] == sid
    assert (form["From"], form["To"], form["AccountSid"]) == (THEIRS, OURS, ACCOUNT)
    assert (form["SmsStatus"], form["NumMedia"], form["NumSegments"]) == ("received", "0", "1")
    assert callback.headers["User-Agent"] == "TwilioProxy/1.1"
    assert callback.headers["I-Twilio-Idempotency-Token"]
    assert callback.headers["Content-Type"].startswith("application/x-www-form-urlencoded")


async def test_a_picture_alone_comes_without_a_body(sandbox: Sandbox, door: Door) -> None:
    """The door would require a parameter that Twilio leaves out."""
    await sandbox.provision(door.url)

    await sandbox.text("", media=["https://example.com/a.png", "https://example.com/b"])

    (callback,) = door.callbacks
    form = form_of(callback)
    assert "Body" not in form
    assert form["NumMedia"] == "2"
    assert form["MediaUrl0"] == "https://example.com/a.png"
    assert (form["MediaContentType0"], form["MediaContentType1"]) == ("image/png", "image/jpeg")
    assert form["MessageSid"].startswith("MM")
    assert valid(callback, door.url)


async def test_a_long_text_counts_its_segments(sandbox: Sandbox, door: Door) -> None:
    """A text of several segments would say it has one."""
    await sandbox.provision(door.url)
    await sandbox.text("x" * 161)
    await sandbox.text("я" * 71)

    assert [form_of(each)["NumSegments"] for each in door.callbacks] == ["2", "2"]


async def test_the_query_of_the_callback_url_is_kept_and_signed_and_its_fragment_dropped(
    sandbox: Sandbox, door: Door
) -> None:
    """Overrides in the registered URL would break every signature."""
    url = f"{door.url}/in?tenant=a%2Fb&x="
    await sandbox.provision(f"{url}#rc=2&rp=all")

    await sandbox.text()

    (callback,) = door.callbacks
    assert callback.target == "/in?tenant=a%2Fb&x="
    assert valid(callback, url)


async def test_a_changed_instance_is_used_for_the_next_text(sandbox: Sandbox, door: Door) -> None:
    """A rotated token or a repaired callback URL would have no effect."""
    created = await sandbox.provision("http://127.0.0.1:9/")
    change = {f"{PREFIX}token": "rotated", f"{PREFIX}callback.url": door.url}
    await sandbox.platform("PUT", f"/instances/{created['id']}", {"configuration": change})

    await sandbox.text()

    (callback,) = door.callbacks
    assert valid(callback, door.url, "rotated")


async def test_a_text_goes_to_the_instance_that_has_its_number(
    sandbox: Sandbox, door: Door
) -> None:
    """Two services on one sandbox would get each other's texts."""
    other = {f"{PREFIX}sender": "+15005550199"}
    first = await sandbox.provision(f"{door.url}/first")
    second = await sandbox.provision(f"{door.url}/second")
    await sandbox.platform("PUT", f"/instances/{second['id']}", {"configuration": other})

    await sandbox.text(to=OURS)
    await sandbox.text(to="+15005550199")
    await sandbox.text()
    await sandbox.platform("DELETE", f"/instances/{second['id']}")
    await sandbox.text()

    assert [each.target for each in door.callbacks] == ["/first", "/second", "/second", "/first"]
    assert form_of(door.callbacks[2])["To"] == "+15005550199"
    assert first["id"] != second["id"]


async def test_without_an_instance_a_text_is_kept_as_failed_and_says_why(sandbox: Sandbox) -> None:
    """A text written too early would vanish from the phone."""
    answer = await sandbox.text("too early")

    (message,) = await sandbox.thread()
    assert (answer["status"], answer["state"]) == (0, "failed")
    assert message["state"] == "failed"
    assert message["detail"] == "no service has provisioned an instance yet"


async def test_a_cut_connection_is_tried_once_more_with_the_same_bytes(
    sandbox: Sandbox, door: Door
) -> None:
    """The door's de-duplication would never be met by a repeated callback."""
    await sandbox.provision(door.url)
    door.answers = [None]

    answer = await sandbox.text()

    first, second = door.callbacks
    assert answer["state"] == "accepted"
    assert first.body == second.body
    token = "I-Twilio-Idempotency-Token"
    assert first.headers[token] == second.headers[token]
    statuses = [each["status"] for each in (await sandbox.records())["callbacks"]]
    assert statuses == [0, 200]


@pytest.mark.parametrize(
    ("fragment", "answers", "attempts"),
    [
        ("", [None] * 9, 2),
        ("#rc=0", [None] * 9, 1),
        ("#rc=3", [None] * 9, 4),
        ("#rc=9", [None] * 9, 2),
        ("#rc=3", [503] * 9, 1),
        ("#rc=3&rp=5xx", [503] * 9, 4),
        ("#rc=3&rp=5xx", [404] * 9, 1),
        ("#rc=3&rp=5xx", [None] * 9, 1),
        ("#rc=3&rp=4xx,5xx", [404, 503], 3),
        ("#rc=5&rp=all", [None, 404, 503], 4),
    ],
)
async def test_the_callback_url_says_how_often_and_after_what_twilio_tries_again(
    sandbox: Sandbox, door: Door, fragment: str, answers: list[int | None], attempts: int
) -> None:
    """The overrides we register would be written without knowing what they do."""
    await sandbox.provision(door.url + fragment)
    door.answers = [web.Response(status=each, text="no") if each else None for each in answers]

    await sandbox.text()

    assert len(door.callbacks) == attempts


async def test_all_attempts_together_have_one_time_limit() -> None:
    """A door that never answers would be called six times as long as Twilio calls it."""
    held: list[asyncio.StreamWriter] = []

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)

    silent = await asyncio.start_server(hold, "127.0.0.1", 0)
    records = Records()
    network = Network(records, total_timeout_s=0.5)
    host, port = silent.sockets[0].getsockname()
    url = f"http://{host}:{port}/#rc=5&rp=all"
    instance = records.create_instance("twilio", "parley", wanted(url)["configuration"], [])
    text = records.add_text("SM1", THEIRS, OURS, "hello", [])
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        status = await network.deliver(instance, text)
        took_s = loop.time() - began
    finally:
        await network.aclose()
        for writer in held:
            writer.close()
        silent.close()
        await silent.wait_closed()

    assert (status, text.state, len(records.callbacks)) == (0, "failed", 1)
    # Six attempts of 0.5 s would take 3 s.
    assert 0.5 <= took_s < 2.5


async def test_a_service_that_is_not_there_fails_the_text_with_a_reason(sandbox: Sandbox) -> None:
    """The phone page would show a text as sent that nobody got."""
    await sandbox.provision("http://127.0.0.1:9/")

    answer = await sandbox.text()

    assert (answer["status"], answer["state"]) == (0, "failed")
    assert answer["detail"].startswith("no answer from the service: no connection")


@pytest.mark.parametrize("url", ["none", "ftp://127.0.0.1/", "http://", "http://[", "http://a:b/"])
async def test_a_callback_url_that_is_none_fails_the_text_with_a_reason(
    sandbox: Sandbox, url: str
) -> None:
    """A mistake in the registered URL would end as an error of the sandbox's."""
    await sandbox.provision(url)

    answer = await sandbox.text()

    assert (answer["status"], answer["state"]) == (0, "failed")
    assert answer["detail"].startswith("the registered callback URL can't be used")


@pytest.mark.parametrize(
    ("answer", "state", "warning"),
    [
        (web.Response(status=503, text="full"), "failed", "11200: the callback was answered 503"),
        (web.Response(body=b"", content_type="text/xml"), "accepted", "11200: the answer is empty"),
        (web.Response(text="thanks"), "accepted", "would text this answer to the sender"),
        (web.json_response({}), "accepted", "12300: application/json"),
        (web.Response(body=b"<Resp", content_type="text/xml"), "accepted", "12100"),
        (web.Response(body=b"<Other/>", content_type="text/xml"), "accepted", "12100"),
        (
            web.Response(body=b"<Response><Message/></Response>", content_type="text/xml"),
            "accepted",
            "asks for Message",
        ),
        (twiml(), "accepted", ""),
    ],
    ids=["503", "empty", "plain text", "json", "no xml", "other root", "a verb", "right"],
)
async def test_what_twilio_would_complain_about_is_told(
    sandbox: Sandbox, door: Door, answer: Response, state: str, warning: str
) -> None:
    """A door that answers with plain text would text every sender, and look right here."""
    await sandbox.provision(door.url)
    door.answers = [answer]

    told = await sandbox.text()

    (callback,) = (await sandbox.records())["callbacks"]
    assert told["state"] == state
    assert warning in told["warning"]
    assert bool(warning) == bool(told["warning"])
    assert callback["warning"] == told["warning"]


async def test_every_callback_is_noted_with_its_status_its_time_and_its_answer(
    sandbox: Sandbox, door: Door
) -> None:
    """A failed exchange could not be explained from the records."""
    await sandbox.provision(door.url)
    door.answers = [web.Response(status=403, text="signature refused")]

    told = await sandbox.text()

    (callback,) = (await sandbox.records())["callbacks"]
    assert (callback["sid"], callback["attempt"], callback["status"]) == (told["sid"], 0, 403)
    assert callback["answer"] == "signature refused"
    assert 0 < callback["ms"] < 10_000
    assert told["detail"] == "callback answered 403: signature refused"


async def test_texts_do_not_wait_for_one_another(sandbox: Sandbox, door: Door) -> None:
    """A load test would send one text at a time."""
    await sandbox.provision(door.url)

    answers = await asyncio.gather(*(sandbox.text(str(number)) for number in range(50)))

    assert {each["status"] for each in answers} == {200}
    assert len({each["sid"] for each in answers}) == 50
    assert len(door.callbacks) == 50
