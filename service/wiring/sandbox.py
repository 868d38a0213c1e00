"""`parley sandbox`: the stand-in for Open Connectors, on a listener of its own."""

from __future__ import annotations

import uvloop

from service.logs import set_up_logs
from service.sandbox.app import SandboxConfig, sandbox_app
from service.serving import AppServer, inherit, listen, stop_event
from service.web.bounds import Crowd


def serve_sandbox(
    host: str,
    port: int,
    *,
    user_secret: str,
    organization_secret: str,
    fd: int | None,
    stop_with_stdin: bool,
) -> None:
    """Run the sandbox until it is told to stop. Raises SettingsError."""
    set_up_logs("auto", "warning")
    listener = inherit(fd) if fd is not None else listen(host, port, "--port")
    config = SandboxConfig(user_secret=user_secret, organization_secret=organization_secret)
    if fd is None:
        name, number = listener.getsockname()[:2]
        address = f"http://[{name}]:{number}" if ":" in name else f"http://{name}:{number}"
        print(  # noqa: T201  (the command's output)
            f"Phone page: {address}\n\nSettings that point Parley here:\n"
            f"  OPEN_CONNECTORS_BASE_URL={address}/elements/api-v2\n"
            f"  OPEN_CONNECTORS_USER_SECRET={_told(user_secret)}\n"
            f"  OPEN_CONNECTORS_ORGANIZATION_SECRET={_told(organization_secret)}\n",
            flush=True,
        )

    async def run() -> None:
        server = AppServer(sandbox_app(config), listener, stop_s=1, http=Crowd().connections())
        await server.run_until(stop_event(stop_with_stdin=stop_with_stdin))

    uvloop.run(run())


def _told(secret: str) -> str:
    """Show a secret of the sandbox's own; one that was given may be a real one."""
    return secret if secret.startswith("sandbox-") else "(as given)"
