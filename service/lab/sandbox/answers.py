"""How the platform answers: JSON, errors as it words them, the header that names an instance."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

INSTANCE_HEADER = "elements-element-instance-id"
"""On every answer an instance gives, its errors included."""

REQUEST_HEADER = "elements-request-id"
"""On every answer; an error's body has it as `requestId`."""

COUNT_HEADER = "elements-returned-count"
"""On every list: how many rows it has."""

BODY_LIMIT_BYTES = 1024 * 1024
"""Longer is 429, as the platform answers limits of size; its own is not documented."""


class Refused(Exception):
    """The platform answers with an error.

    provider: what Twilio said, "" when the platform itself refused. retry_after_s: for Retry-After.
    instance_id: the instance that was asked, None before one was found.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        provider: str = "",
        retry_after_s: float | None = None,
        instance_id: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.provider = provider
        self.retry_after_s = retry_after_s
        self.instance_id = instance_id

    @property
    def summary(self) -> str:
        """What was wrong, in a line for the wire log."""
        return f"{self.message}; {self.provider}" if self.provider else self.message


class Unanswered(Response):
    """No answer: none ever ("hang"), or one announced and then cut off ("reset")."""

    def __init__(self, ending: Literal["hang", "reset"]) -> None:
        super().__init__()
        self.status_code = 0
        self.ending = ending

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Go without an answer; a hang lasts until the caller leaves."""
        if self.ending == "hang":
            while (await receive())["type"] != "http.disconnect":
                pass
        else:
            # An answer announced and never given: the server cuts the connection.
            start = {"type": "http.response.start", "status": 200}
            await send(start | {"headers": [(b"content-length", b"1000")]})


def answer_json(body: Any, instance_id: int | None = None, status: int = 200) -> Response:
    """Answer with JSON; instance_id: the instance that speaks, None for the platform."""
    headers = {REQUEST_HEADER: secrets.token_hex(12)}
    if instance_id is not None:
        headers[INSTANCE_HEADER] = str(instance_id)
    if isinstance(body, list):
        headers[COUNT_HEADER] = str(len(body))
    content = msgspec.json.encode(body)
    return Response(content, status, headers, media_type="application/json")


def without_body(answer: Response) -> Response:
    """Return an answer that announces JSON and has nothing."""
    return Response(b"", answer.status_code, {**answer.headers, "content-length": "0"})


def answer_error(error: Refused) -> Response:
    """Answer with `{"requestId", "message"}`, and `providerMessage` where Twilio refused."""
    body = {"requestId": secrets.token_hex(12), "message": error.message}
    if error.provider:
        body["providerMessage"] = error.provider
    answer = answer_json(body, error.instance_id, error.status)
    answer.headers[REQUEST_HEADER] = body["requestId"]
    if error.retry_after_s is not None:
        answer.headers["Retry-After"] = f"{error.retry_after_s:.15g}"
    return answer


def without_nulls(value: Any) -> Any:
    """Return JSON without the fields that are null, as `filter.response.nulls` asks for."""
    if isinstance(value, dict):
        return {name: without_nulls(each) for name, each in value.items() if each is not None}
    return [without_nulls(each) for each in value] if isinstance(value, list) else value


def check_accept(accept: str) -> None:
    """Let pass who takes JSON; "" takes anything. Raises Refused (406)."""
    taken = {each.partition(";")[0].strip().lower() for each in accept.split(",")}
    if not taken & {"", "*/*", "application/*", "application/json"}:
        raise Refused(406, "The only media type produced is application/json")


def is_json(content_type: bytes) -> bool:
    """Tell whether a Content-Type is JSON's, whatever parameters it has."""
    return content_type.partition(b";")[0].strip().lower() == b"application/json"


def read_object(content_type: bytes, raw: bytes) -> dict[str, Any]:
    """Read a JSON object.

    Raises Refused: 415 for another type, 400 for anything else.
    """
    if not is_json(content_type):
        raise Refused(415, "The Content-Type must be application/json")
    try:
        body = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(400, f"Invalid JSON: {error}") from error
    if not isinstance(body, dict):
        raise Refused(400, "The body must be a JSON object")
    return body


async def read_body(request: Request) -> dict[str, Any]:
    """Read a request's JSON object; raises as `read_object`."""
    content_type = request.headers.get("content-type", "").encode("latin-1")
    return read_object(content_type, await request.body())


def require(body: Mapping[str, Any], *names: str) -> None:
    """Check that fields are given. Raises Refused (400) naming every one that is missing."""
    missing = [name for name in names if body.get(name) in (None, "", [])]
    if missing:
        raise Refused(400, f"Missing required field{'s'[: len(missing) > 1]}: {', '.join(missing)}")


async def unknown_path(request: Request, error: Exception) -> Response:
    """Answer for a path there is none of (Starlette)."""
    return answer_error(Refused(404, f"No resource found for {request.url.path}"))


async def unknown_method(request: Request, error: Exception) -> Response:
    """Answer for a method the path does not have (Starlette)."""
    answer = answer_error(Refused(405, f"Method {request.method} is not supported here"))
    if isinstance(error, HTTPException) and error.headers:
        answer.headers.update(error.headers)
    return answer


async def defect(request: Request, error: Exception) -> Response:
    """Answer for a mistake in the sandbox itself; Starlette logs the traceback."""
    return answer_error(Refused(500, "The sandbox failed; its log has the traceback"))
