"""`parley sandbox`: the stand-in for Open Connectors, on a listener of its own."""

from __future__ import annotations

from collections.abc import Sequence

import uvloop

from service.errors import SettingsError
from service.host.bounds import bounded
from service.host.crowd import Crowd
from service.host.listeners import AppServer, inherit, listen, stop_event
from service.host.logs import set_up_logs
from service.lab.sandbox.app import SandboxConfig, sandbox_app
from service.lab.sandbox.loopback import is_loopback


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
        address = f"http://[{name}]:{number}" if ":" in name else f"http://{name}:{number}"
        print(  # noqa: T201  (the command's output)
            f"Phone page: {address}\n\nSettings that point Parley here:\n"
            f"  OPEN_CONNECTORS_BASE_URL={address}/elements/api-v2\n"
            f"  OPEN_CONNECTORS_USER_SECRET={_told(user_secret)}\n"
            f"  OPEN_CONNECTORS_ORGANIZATION_SECRET={_told(organization_secret)}\n",
            flush=True,
        )

    async def run() -> None:
        # Dated, as the platform's answers are: they tell what its clock shows.
        server = AppServer(
            sandbox_app(config), listener, stop_s=1, http=bounded(Crowd()), dated=True
        )
        await server.run_until(stop_event(stop_with_stdin=stop_with_stdin))

    uvloop.run(run())


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
