"""Makes pages of templates, each with the nonce of its scripts."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse

from service.core.plain_text import escape
from service.operate.console import Session
from service.web.console import paths, wording
from service.web.console.assets import Assets
from service.web.console.guard import NONCE

FOLDER = Path(__file__).parent / "templates"


class Renderer:
    """Renders the templates of the console."""

    def __init__(self, assets: Assets) -> None:
        self._templates = Environment(
            loader=FileSystemLoader(FOLDER),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._templates.filters |= {
            "exactly": wording.exactly,
            "lasting": wording.lasting,
            "number": wording.number,
            "part": wording.part,
            "plain": escape,
            "lines": wording.plain_lines,
            "json": wording.as_json,
            "json_lines": wording.json_lines,
            "pieces": wording.pieces,
            "short": wording.short,
        }
        self._templates.globals |= {"paths": paths, "asset": assets.path, "ago": _ago_now}

    def page(
        self, request: Request, name: str, session: Session | None, status: int = 200, **values: Any
    ) -> HTMLResponse:
        """Answer with a page. session: of whoever sees it; None for somebody not signed in."""
        text = self._templates.get_template(f"{name}.html").render(
            nonce=request.scope[NONCE], session=session, here=request.url.path, **values
        )
        return HTMLResponse(text, status)

    def fragment(self, name: str, **values: Any) -> str:
        """Render a part of a page."""
        return self._templates.get_template(f"{name}.html").render(**values)


def _ago_now(at: datetime) -> str:
    return wording.ago(at, datetime.now(UTC))
