"""`parley console`: sign in at the console, its password, who is signed in. And `parley audit`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from service.cli.printing import print_table, say, say_error, say_json
from service.cli.running import AnyRedis, noting_in, run_on_store
from service.cli.words import AsJson, examples
from service.errors import SettingsError, UsageError

if TYPE_CHECKING:
    from service.operate.audit import Act
    from service.operate.console import Session

app = typer.Typer(
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ForRole = Annotated[
    Literal["operator", "viewer"], typer.Option("--role", help="viewer: sees. operator: acts.")
]


@app.callback(
    invoke_without_command=True,
    epilog=examples("parley console", "parley console --role viewer"),
)
def console(context: typer.Context, role: ForRole = "operator", as_json: AsJson = False) -> None:
    """Print an address to sign in at the console.

    It is good once, within ten minutes, in a browser on this machine. The service has to run.
    """
    if context.invoked_subcommand is not None:
        if role != "operator" or as_json:
            raise UsageError(f"options of this command go behind `{context.invoked_subcommand}`")
        return
    from service.operate.console import TOKEN_LIVES, address_of, make_token, root_of
    from service.settings.setup import load_given

    given = load_given()
    settings = given.partial()
    if settings.console == "off":
        raise SettingsError(["CONSOLE: is off, so there is nowhere to sign in; set it to on"])
    root = root_of(settings.internal_host, settings.internal_port)

    async def make(client: AnyRedis) -> str:
        async with noting_in(client, "console", f"a one-time address, as {role}"):
            return await make_token(client, role)

    address = address_of(root, run_on_store(make, given))
    if as_json:
        valid_s = int(TOKEN_LIVES.total_seconds())
        say_json({"address": address, "role": role, "valid_s": valid_s})
        return
    say(address)
    say_error(
        f"It signs in as {role}, once, within ten minutes: open it in a browser on this machine."
    )


@app.command(
    epilog=examples("parley console password", "parley console password --role viewer < file")
)
def password(
    role: ForRole = "operator",
    remove: Annotated[bool, typer.Option("--remove", help="Have none any more.")] = False,
) -> None:
    """Set the password of a role.

    Asks for it twice, or reads one line of standard input where that is no terminal. Ends the
    sessions that began by the former one.
    """
    from service.operate.console import remove_password, set_password

    about = f"of the role {role}"

    async def take_away(client: AnyRedis) -> bool:
        async with noting_in(client, "console password --remove", about) as act:
            had = await remove_password(client, role)
            act.outcome = "done" if had else "there was none"
            return had

    if remove:
        had = run_on_store(take_away)
        say(f"The role {role} {'has no password now' if had else 'had no password'}.")
        return
    chosen = _read_password()

    async def put(client: AnyRedis) -> int:
        async with noting_in(client, "console password", about):
            return await set_password(client, chosen, role)

    ended = run_on_store(put)
    say(f"The password of the role {role} is set.")
    if ended:
        say(f"Sessions that began by the former one: {ended}, ended now.")


@app.command(epilog=examples("parley console sessions", "parley console sessions --json"))
def sessions(as_json: AsJson = False) -> None:
    """List who is signed in, newest first."""
    from service.operate import console as signing_in

    async def ask(client: AnyRedis) -> list[Session]:
        return await signing_in.sessions(client)

    found = run_on_store(ask)
    if as_json:
        say_json([_as_json(session) for session in found])
        return
    if not found:
        say("Nobody is signed in. `parley console` prints an address to sign in at.")
        return
    titles = ("id", "signed in", "began", "seen", "ends", "from", "browser")
    rows = [
        (
            each.id,
            each.who,
            *(f"{at:%Y-%m-%d %H:%M:%S}" for at in (each.began, each.seen, each.ends)),
            each.address,
            each.agent,
        )
        for each in found
    ]
    print_table(titles, [(row, None) for row in rows], below=1)
    say("Times are UTC. Next: parley console end ID")


@app.command(epilog=examples("parley console end 1f2e3d4c", "parley console end --all"))
def end(
    ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="ID...", help="Ids, as `parley console sessions` shows them."),
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="Every session.")] = False,
    as_json: AsJson = False,
) -> None:
    """End sessions: their browsers are signed out at once.

    Status 1 if one is over already.
    """
    from service.operate import console as signing_in

    if bool(ids) == all_:
        raise UsageError("say which: parley console end ID ..., or parley console end --all")

    async def run(client: AnyRedis) -> dict[str, bool]:
        chosen = ids or [each.id for each in await signing_in.sessions(client)]
        done = {}
        for id_ in dict.fromkeys(chosen):
            async with noting_in(client, "console end", f"session {id_}") as act:
                done[id_] = await signing_in.end_session(client, id_)
                act.outcome = "done" if done[id_] else "there is no such session"
        return done

    done = run_on_store(run)
    missing = [id_ for id_, ended in done.items() if not ended]
    if as_json:
        say_json({"ended": len(done) - len(missing), "missing": missing})
    else:
        say(f"{len(done) - len(missing)} ended.")
        say_error(*(f"{id_}: there is no such session (any more)" for id_ in missing))
    if missing and not all_:
        raise typer.Exit(1)


def audit(
    limit: Annotated[int, typer.Option(min=1, help="So many, the newest.")] = 50,
    contains: Annotated[str, typer.Option(help="Only acts with this in them.")] = "",
    as_json: AsJson = False,
) -> None:
    """Show who did what, newest first.

    By commands and in the console; the newest 100,000 acts are kept.
    """
    from service.operate.audit import trail

    async def ask(client: AnyRedis) -> list[Act]:
        return await trail(client, count=limit, contains=contains)

    found = run_on_store(ask)
    if as_json:
        say_json([_as_json(act) for act in found])
        return
    if not found:
        say("Nothing like that is in the audit trail." if contains else "The audit trail is empty.")
        return
    titles = ("at (UTC)", "who", "by", "what", "about", "outcome")
    rows = [
        (f"{act.at:%Y-%m-%d %H:%M:%S}", act.who, act.via, act.what, act.about, act.outcome)
        for act in found
    ]
    print_table(titles, [(row, None) for row in rows], below=2)


def _as_json(value: Any) -> dict[str, Any]:
    """A session or an act for scripts; what forms carry is left out."""
    from dataclasses import asdict
    from datetime import datetime

    shown = {name: each for name, each in asdict(value).items() if name != "csrf"}
    return {
        name: each.isoformat() if isinstance(each, datetime) else each
        for name, each in shown.items()
    }


def _read_password() -> str:
    if sys.stdin.isatty():
        chosen: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
        return chosen
    line = sys.stdin.readline().rstrip("\r\n")
    if not line:
        raise UsageError("standard input has no password: one line is read, as it is")
    return line
