"""`parley sandbox`: the stand-in for Open Connectors, on a listener of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import uvloop

from service.errors import SettingsError
from service.host.bounded import bounded
from service.host.crowd import Crowd
from service.host.listeners import AppServer, inherit, listen, stop_event
from service.host.logs import set_up_logs
from service.lab.sandbox.app import SandboxConfig, sandbox_app
from service.lab.sandbox.loopback import is_loopback

OUR_NUMBER = "+15005550100"
"""The sender of a `parley serve` beside the sandbox: of the range that Twilio keeps for tests."""

EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  (listened on, not called)


def settings_beside(
    host: str, port: int, *, serve_port: int, user_secret: str, organization_secret: str
) -> Mapping[str, str]:
    """Return every setting that a `parley serve` beside the sandbox at this port needs, by name.

    serve_port: of that service's public listener. Secrets of the sandbox's are left out where they
        were given and may be real ones.
    The same arguments give the same settings: one shell runs the sandbox, another the service.
    What no sandbox cares about is made up from the port, so it is secret to nobody.
    """

    def made_up(name: str) -> str:
        return hashlib.sha256(f"{name} beside the sandbox at {port}".encode()).hexdigest()

    address = _address(EVERYWHERE.get(host, host), port)
    settings = {
        "PUBLIC_URL": f"http://127.0.0.1:{serve_port}",
        "HOST": "127.0.0.1",
        "PORT": str(serve_port),
        "TWILIO_ACCOUNT_SID": f"AC{made_up('TWILIO_ACCOUNT_SID')[:32]}",
        "TWILIO_AUTH_TOKEN": made_up("TWILIO_AUTH_TOKEN")[:32],
        "TWILIO_SENDER": OUR_NUMBER,
        "OPEN_CONNECTORS_BASE_URL": f"{address}/elements/api-v2",
        "OPEN_CONNECTORS_USER_SECRET": user_secret,
        "OPEN_CONNECTORS_ORGANIZATION_SECRET": organization_secret,
        "SECRET_KEY": made_up("SECRET_KEY"),
        # A Redis of its own in a folder of its own: what is kept in earnest is left alone.
        "REDIS_URL": "",
        "DATA_DIR": f"~/.local/share/parley-sandbox-{port}",
    }
    given = {user_secret, organization_secret} - {"sandbox-user", "sandbox-organization"}
    return {name: value for name, value in settings.items() if value not in given}


def serve_sandbox(
    host: str,
    port: int,
    *,
    public: bool,
    names: Sequence[str],
    user_secret: str,
    organization_secret: str,
    fd: int | None,
    stop_with_stdin: bool,
) -> None:
    """Run the sandbox until it is told to stop.

    public: it may listen, and call, beyond this machine. names: it is asked for by, besides host.
    Raises SettingsError.
    """
    set_up_logs("auto", "warning")
    if fd is None:
        _check_host(host, public=public)
        listener = listen(host, port, "--port")
    else:
        listener = inherit(fd)
        _check_host(listener.getsockname()[0], public=public)
    name, number = listener.getsockname()[:2]
    config = SandboxConfig(
        user_secret=user_secret,
        organization_secret=organization_secret,
        hosts=frozenset({host, name, *names}),
        public=public,
    )
    if fd is None:
        address = _address(name, number)
        print(  # noqa: T201  (the command's output)
            f"Phone page: {address}\n\nSettings that point Parley here:\n"
            f"  OPEN_CONNECTORS_BASE_URL={address}/elements/api-v2\n"
            f"  OPEN_CONNECTORS_USER_SECRET={_told(user_secret)}\n"
            f"  OPEN_CONNECTORS_ORGANIZATION_SECRET={_told(organization_secret)}\n"
            "For a service on this machine, all that it needs, the rest made up:\n"
            f'  eval "$(parley sandbox --env --port {number})"; parley serve\n',
            flush=True,
        )

    async def run() -> None:
        # Dated, as the platform's answers are: they tell what its clock shows.
        server = AppServer(
            sandbox_app(config), listener, stop_s=1, http=bounded(Crowd()), dated=True
        )
        await server.run_until(stop_event(stop_with_stdin=stop_with_stdin))

    uvloop.run(run())


def _address(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _check_host(host: str, *, public: bool) -> None:
    if not public and not is_loopback(host):
        raise SettingsError(
            [
                (
                    f"--host: {host} can be reached from other machines, and the sandbox shows "
                    "texts and takes orders from whoever asks; listen at 127.0.0.1, or say "
                    "--public if everybody who can reach it may"
                )
            ]
        )


def _told(secret: str) -> str:
    """Show a secret of the sandbox's own; one that was given may be a real one."""
    return secret if secret.startswith("sandbox-") else "(as given)"
