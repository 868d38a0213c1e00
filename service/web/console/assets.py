"""What pages load: styles, scripts and the icon, read once and named by what is in them.

A name holds a hash of the content, so browsers keep a file for good and never use an old one.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from service.web.console.paths import STATIC

FOLDER = Path(__file__).parent / "static"

TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""Content types by ending; files with another one are not served."""

KEPT = {"cache-control": "public, max-age=31536000, immutable"}


class Assets:
    """The files, by the names they are served under."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._served: dict[str, tuple[bytes, str]] = {}
        self._paths: dict[str, str] = {}
        for file in sorted(folder.iterdir()):
            if file.suffix in TYPES:
                content = file.read_bytes()
                digest = hashlib.sha256(content).hexdigest()[:16]
                name = f"{digest}-{file.name}"
                self._served[name] = content, TYPES[file.suffix]
                self._paths[file.name] = f"{STATIC}/{name}"

    def path(self, name: str) -> str:
        """Return where a file is served. Raises KeyError for one that is not there."""
        return self._paths[name]

    async def serve(self, request: Request) -> Response:
        """Answer with a file; needs no sign-in, as the sign-in page uses them."""
        found = self._served.get(request.path_params["name"])
        if found is None:
            return Response("not found", 404, media_type="text/plain")
        content, kind = found
        return Response(content, headers=KEPT, media_type=kind)
