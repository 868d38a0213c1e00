"""`parley bench`: its options. What it does is in `bench_runs`, which takes long to import."""

from __future__ import annotations

from typing import Annotated

import typer

from service.cli.running import settings_in_use
from service.cli.words import examples
from service.errors import UsageError

EXAMPLES = examples(
    "parley bench",
    "parley bench --targets",
    "parley bench --rate 0 --messages 5000",
    "parley bench --url https://sms.example.com --seconds 30",
)


def bench(
    url: Annotated[
        str, typer.Option(help="Public address of a running deployment; else one is started.")
    ] = "",
    address: Annotated[
        str, typer.Option(help="Where to send instead: past the proxy, http://127.0.0.1:8080.")
    ] = "",
    token: Annotated[str, typer.Option(help="Its auth token (TWILIO_AUTH_TOKEN).")] = "",
    account: Annotated[str, typer.Option(help="Its account (TWILIO_ACCOUNT_SID).")] = "",
    to: Annotated[str, typer.Option(help="The number texted (TWILIO_SENDER).")] = "",
    connector_log: Annotated[
        str, typer.Option(help="Address of the sandbox that gets the replies.")
    ] = "",
    internal: Annotated[
        str, typer.Option(help="Address of the internal listener, for round trips.")
    ] = "",
    rate: Annotated[float, typer.Option(min=0, help="Callbacks a second; 0: flat out.")] = 200,
    messages: Annotated[
        int | None, typer.Option(min=1, max=200_000, help="How many messages.")
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=0.1, help="For how long, unless --messages says how many.")
    ] = 10,
    conversations: Annotated[int, typer.Option(min=1, max=9_999_999)] = 200,
    connections: Annotated[int, typer.Option(min=1, max=1000, help="Flat out: at once.")] = 64,
    duplicates: Annotated[float, typer.Option(min=0, max=1, help="Share sent twice.")] = 0.01,
    bad_signatures: Annotated[float, typer.Option(min=0, max=1, help="Share forged.")] = 0.01,
    processes: Annotated[
        int, typer.Option(min=1, max=256, help="Processes of the deployment it starts.")
    ] = 1,
    connector_delay_ms: Annotated[
        float, typer.Option(min=0, help="What its connector waits before it answers.")
    ] = 50,
    targets: Annotated[
        bool,
        typer.Option(
            help="Run what the targets are stated for: 200/s, then 5,000 flat out. "
            "Status 1 if one of them is missed."
        ),
    ] = False,
    log_texts: Annotated[
        bool, typer.Option(help="Whether the deployment it starts logs each text (LOG_TEXTS).")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Measure a deployment under load.

    Counts what was lost, doubled or out of order, too; status 1 if anything was.
    """
    from service.cli import bench_runs
    from service.lab.bench.plan import Place, Target
    from service.lab.bench.run import Wanted

    wanted = Wanted(
        rate=rate,
        messages=messages,
        seconds=seconds,
        conversations=conversations,
        connections=connections,
        duplicates=duplicates,
        forged=bad_signatures,
    )
    if url and targets:
        raise typer.BadParameter("--targets starts a deployment of its own; leave out --url")
    if not url:
        if address or connector_log or internal:
            raise typer.BadParameter("--address, --connector-log and --internal go with --url")
        if targets:
            status = bench_runs.bench_targets(
                wanted, processes=processes, log_texts=log_texts, json_wanted=as_json
            )
            raise typer.Exit(status)
        status = bench_runs.bench_own(
            wanted,
            processes=processes,
            delay_ms=connector_delay_ms,
            log_texts=log_texts,
            json_wanted=as_json,
        )
        raise typer.Exit(status)
    if any("@" in each for each in (url, address, connector_log, internal)):
        raise UsageError("--url, --address, ... hold no user and no password")
    if not (token and account and to):
        settings = settings_in_use()
        token = token or settings.twilio_auth_token.get_secret_value()
        account = account or settings.twilio_account_sid
        to = to or settings.twilio_sender
    signed = bench_runs.callback_url(url)
    place = Place(
        target=Target(signed, token, account, to),
        address=bench_runs.callback_url(address) if address else signed,
        connector_log=connector_log or None,
        internal=internal or None,
    )
    try:
        status = bench_runs.bench_deployment(place, wanted, json_wanted=as_json)
    except ValueError:  # whose text may quote a password
        raise UsageError(
            "--url, --address, --connector-log and --internal are addresses: "
            "http:// or https://, a host, and a port or none"
        ) from None
    raise typer.Exit(status)
