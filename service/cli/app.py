"""The `parley` command and what is in no file of its own."""

from __future__ import annotations

import json
import shlex
import time
from enum import StrEnum
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Annotated, Any

import typer

from service.cli import backfill, bench, check, connect, connector, console, dead, demo
from service.cli.printing import print_table, say, say_error, say_json
from service.cli.running import run_on_deployment, settings_in_use
from service.cli.words import examples
from service.errors import OPERATOR_MUST_MEND, UsageError

app = typer.Typer(
    name="parley",
    help="Hold conversations by SMS: Twilio in, SAP Open Connectors out, nothing lost between.",
    no_args_is_help=True,
    rich_markup_mode=None,  # a frame of rich's would cut names off at 80 columns
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(dead.app, name="dead")
app.add_typer(connector.app, name="connector")
app.add_typer(console.app, name="console")
app.command(epilog=examples("parley audit", "parley audit --contains 'dead drop' --limit 20"))(
    console.audit
)
app.command(epilog=examples("parley backfill --since 2h"))(backfill.backfill)
app.command(epilog=bench.EXAMPLES)(bench.bench)
app.command(epilog=examples("parley check", "parley check --json"))(check.check)
app.command(epilog=connect.EXAMPLES)(connect.connect)
app.command(epilog=demo.DEMO_EXAMPLES)(demo.demo)
app.command(epilog=demo.ROUTES_EXAMPLES)(demo.routes)


class ServeRole(StrEnum):
    """Which parts of the service a process runs."""

    web = "web"
    worker = "worker"
    all = "all"


def _show_version(wanted: bool) -> None:
    if wanted:
        # Here, as nothing else in a running service needs it: 1.5 MB.
        from importlib.metadata import PackageNotFoundError, version

        try:
            say(f"parley {version('parley-sms')}")
        except PackageNotFoundError:
            say("parley (not installed; run from its folder)")
        raise typer.Exit


@app.callback()
def parley(
    show_version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Hold conversations by SMS: Twilio in, SAP Open Connectors out, nothing lost between."""


@app.command(
    epilog=examples("parley serve", "parley serve --host 0.0.0.0 --port 8080 --processes 2")
)
def serve(
    host: Annotated[str | None, typer.Option(help="Interface to listen on (HOST).")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on (PORT).")] = None,
    processes: Annotated[
        int | None, typer.Option(min=1, help="Processes to run (PROCESSES).")
    ] = None,
    role: Annotated[
        ServeRole, typer.Option(help="web: callbacks only. worker: handlers and sending only.")
    ] = ServeRole.all,
    fd: Annotated[int | None, typer.Option(hidden=True)] = None,
    internal_fd: Annotated[int | None, typer.Option(hidden=True)] = None,
    slot: Annotated[str | None, typer.Option(hidden=True)] = None,
    worker: Annotated[str | None, typer.Option(hidden=True)] = None,
    up_fd: Annotated[int | None, typer.Option(hidden=True)] = None,
    stop_with_stdin: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Receive callbacks, run handlers, send replies."""
    from service.wiring.serve import serve_with

    raise typer.Exit(
        serve_with(
            host=host,
            port=port,
            processes=processes,
            role=role.value,
            fd=fd,
            internal_fd=internal_fd,
            slot=slot,
            worker=worker,
            up_fd=up_fd,
            stop_with_stdin=stop_with_stdin,
        )
    )


@app.command(
    epilog=examples(
        "parley sandbox --port 9090",
        'eval "$(parley sandbox --env)"',
        "parley sandbox --host 0.0.0.0 --public --name sandbox.example.com",
    )
)
def sandbox(
    host: Annotated[str, typer.Option(help="Interface to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 9090,
    public: Annotated[
        bool,
        typer.Option(
            "--public",
            help="Let other machines reach it, and its callbacks reach them. Whoever can, reads "
            "every text.",
        ),
    ] = False,
    name: Annotated[
        list[str] | None,
        typer.Option(help="A name it is asked for by, besides localhost; may be repeated."),
    ] = None,
    user_secret: Annotated[
        str, typer.Option(envvar="OPEN_CONNECTORS_USER_SECRET", help="User secret it accepts.")
    ] = "sandbox-user",
    organization_secret: Annotated[
        str,
        typer.Option(
            envvar="OPEN_CONNECTORS_ORGANIZATION_SECRET", help="Organization secret it accepts."
        ),
    ] = "sandbox-organization",
    env: Annotated[
        bool,
        typer.Option(
            "--env",
            help="Print what `parley serve` beside a sandbox at this port needs, and end.",
        ),
    ] = False,
    serve_port: Annotated[
        int, typer.Option(min=1, max=65535, help="With --env: port of that service (PORT).")
    ] = 8080,
    fd: Annotated[int | None, typer.Option(hidden=True)] = None,
    stop_with_stdin: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Stand in for Open Connectors and the phone network.

    Its phone page shows what is texted.
    """
    from service.lab.sandbox.serving import serve_sandbox, settings_beside

    if env:
        if not port:
            raise UsageError("--env --port 0: say which port the sandbox is at")
        beside = settings_beside(
            host,
            port,
            serve_port=serve_port,
            user_secret=user_secret,
            organization_secret=organization_secret,
        )
        say(*(f"export {each}={shlex.quote(value)}" for each, value in beside.items()))
        for secret in ("OPEN_CONNECTORS_USER_SECRET", "OPEN_CONNECTORS_ORGANIZATION_SECRET"):
            if secret not in beside:
                say_error(f"{secret} stays as it is: it was given, and may be a real one")
        return
    serve_sandbox(
        host,
        port,
        public=public,
        names=name or (),
        user_secret=user_secret,
        organization_secret=organization_secret,
        fd=fd,
        stop_with_stdin=stop_with_stdin,
    )


@app.command(epilog=examples("parley settings", "parley settings --json"))
def settings(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print what each of them means instead, and end.")
    ] = False,
) -> None:
    """Show every setting, its source, and what is wrong.

    Secrets are masked.
    """
    from service.settings.describing import settings_as_markdown
    from service.settings.loading import explain_settings, find_near_names

    if markdown:
        say(*settings_as_markdown().splitlines())
        return
    rows = explain_settings()
    wrong = [row for row in rows if row.problem]
    if as_json:
        say_json(
            [
                {
                    "name": r.name,
                    "value": r.shown,
                    "source": r.source,
                    "problem": r.problem,
                    "means": r.means,
                }
                for r in rows
            ]
        )
    else:
        print_table(
            ("setting", "value", "from"),
            [((r.name, r.shown, r.source), "red" if r.problem else None) for r in rows],
        )
        say_error(*(row.problem for row in wrong))
    say_error(*find_near_names())
    if wrong:
        raise typer.Exit(OPERATOR_MUST_MEND)


@app.command(epilog=examples("parley ready", "parley ready --wait 30"))
def ready(
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for it.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Ask the service on this machine whether it is ready.

    Status 0 if every part of it is. It is found by INTERNAL_HOST and INTERNAL_PORT, as /readyz is.
    """
    from service.settings.setup import load_given

    settings = load_given().partial()
    end = time.monotonic() + wait
    while True:
        found = _ask_readiness(settings.internal_host, settings.internal_port)
        if found.get("ready") or time.monotonic() >= end:
            break
        time.sleep(0.5)
    if as_json:
        say_json(found)
    else:
        for name, check in found["checks"].items():
            detail = f": {check['detail']}" if check["detail"] else ""
            say(f"{name} {'ok' if check['ok'] else 'NOT READY'}{detail}")
    if not found["ready"]:
        raise typer.Exit(1)


def _ask_readiness(host: str, port: int) -> dict[str, Any]:
    """GET /readyz. Not through a proxy of the environment: it is on this machine."""
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  (listened on, not called)
    connection = HTTPConnection(everywhere.get(host, host), port, timeout=10)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse().read()
    except (OSError, HTTPException) as error:
        return _unready(f"nobody answers at {host}:{port} (INTERNAL_HOST, INTERNAL_PORT): {error}")
    finally:
        connection.close()
    try:
        found = json.loads(answer)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not {"ready", "checks"} <= found.keys():
        return _unready(
            f"what answers at {host}:{port} is no Parley; where its internal port is, its log says "
            "at the start: set INTERNAL_PORT to choose it"
        )
    return found


def _unready(detail: str) -> dict[str, Any]:
    return {"ready": False, "checks": {"service": {"ok": False, "detail": detail}}}


@app.command(epilog=examples("parley optouts --json"))
def optouts(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """List who has opted out of which of our numbers.

    That is, as far as texts and refusals told us.
    """
    from service.operate import opt_outs

    found = run_on_deployment(opt_outs.list_all)
    if as_json:
        rows = [
            {"ours": ours, "theirs": theirs, "at": each.at.isoformat()}
            for each in found
            for ours, theirs in (each.conversation,)
        ]
        say_json(rows)
        return
    for each in found:
        say(f"{each.at:%Y-%m-%d %H:%M:%S}  {each.conversation.theirs} of {each.conversation.ours}")
    if not found:
        say("Nobody has opted out.")


@app.command(
    name="explain-signature",
    epilog=examples(
        "parley explain-signature --url https://sms.example.com/callbacks/twilio \\",
        "    --body 'From=%2B14155550123&...' --signature RSOYDt4T1cUTdK1PDd93/VVr8B8=",
    ),
)
def explain_signature(
    url: Annotated[str, typer.Option(help="The address Twilio was given, with its query.")],
    signature: Annotated[str, typer.Option(help="The X-Twilio-Signature header.")],
    body: Annotated[str, typer.Option(help="The raw form body; @file reads it from a file.")] = "",
    token: Annotated[
        list[str] | None,
        typer.Option(envvar="TWILIO_AUTH_TOKEN", help="Auth token(s) to try.", show_envvar=True),
    ] = None,
    signed_with: Annotated[
        str | None, typer.Option(help="The X-Twilio-Webhooks-Signature-Settings header.")
    ] = None,
    shared_keys: Annotated[
        str | None,
        typer.Option(envvar="TWILIO_SHARED_KEYS", help="<id>:<secret> of shared keys, by commas."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Tell why a callback's signature does not match.

    And what would have matched.
    """
    from service.operate.signatures import explain_signature as explain
    from service.settings.forms import read_shared_keys

    if not token:
        # As the service has them: from secret files, service.toml and the setup as well, the
        # second one too.
        settings = settings_in_use()
        token, keys = list(settings.auth_tokens), settings.shared_keys
    else:
        keys = {}
    if shared_keys:
        keys = read_shared_keys(shared_keys)
        if not keys:
            raise typer.BadParameter("--shared-keys: not a list of <id>:<secret>, by commas")
    try:
        raw = Path(body[1:]).read_bytes() if body.startswith("@") else body.encode()
    except OSError as error:
        raise UsageError(f"--body {body}: can't be read: {error.strerror}") from error
    try:

        def explained(form: bytes) -> tuple[bool, tuple[str, ...]]:
            found = explain(url, form, signature, token, signed_with=signed_with, shared_keys=keys)
            return found.matched, found.lines

        matched, lines = explained(raw)
        bare = raw.rstrip(b"\r\n")
        if not matched and bare != raw and explained(bare)[0]:
            lines = ("It would match without the newline at the end, which editors add.",)
    except ValueError:  # whose text may quote a password
        raise UsageError(
            "--url or --token: a callback URL begins with https:// and a host name, "
            "and no token is empty"
        ) from None
    if as_json:
        say_json({"matched": matched, "lines": list(lines)})
    else:
        say(*lines)
    if not matched:
        raise typer.Exit(1)
