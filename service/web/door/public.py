"""The public listener: callbacks and liveness, nothing else."""

from __future__ import annotations

from urllib.parse import unquote

from service.host.answers import ALIVE, NOT_FOUND, AsgiApp, Receive, Scope, Send, not_allowed


def public_app(door: AsgiApp, *, callback_path: str, prefix: str = "") -> AsgiApp:
    """Make the application that faces the internet.

    door: serves callbacks. callback_path: where, e.g. "/callbacks/twilio".
    prefix: path of PUBLIC_URL, "" if it has none. A reverse proxy may strip it or not, so both
        paths are served; what Twilio signed is settled by the settings alone.
    """
    bare = unquote(prefix).rstrip("/")
    callbacks = frozenset({callback_path, bare + callback_path})
    liveness = frozenset({"/healthz", bare + "/healthz"})
    read_only = not_allowed("GET", "HEAD")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path = scope["path"]
            if path in callbacks:
                await door(scope, receive, send)
            elif path not in liveness:
                await NOT_FOUND.send(send)
            elif scope["method"] in {"GET", "HEAD"}:
                await ALIVE.send(send)
            else:
                await read_only.send(send)
        elif scope["type"] == "lifespan":
            await _live(receive, send)
        else:
            await send({"type": "websocket.close"})

    return app


def written_paths(*, callback_path: str, prefix: str = "") -> frozenset[bytes]:
    """Return the paths the door has in `public_app`, as a request line has them.

    Not every spelling: those it leaves out reach the door through the application.
    """
    return frozenset({callback_path.encode(), f"{prefix.rstrip('/')}{callback_path}".encode()})


async def _live(receive: Receive, send: Send) -> None:
    """Follow the server's start and stop; what is started with it is the wiring's business."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
