"""Open Connectors as far as Parley uses it: every resource under one base path."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.sandbox.access import Access
from service.sandbox.answers import Refused, Unanswered, answer_error, check_accept
from service.sandbox.instances import Instances
from service.sandbox.messages import Messages
from service.sandbox.outage import name_of, serve_in
from service.sandbox.records import Records

BASE = "/elements/api-v2"

MESSAGES = re.compile(rf"{BASE}(/hubs/[^/]+)?/messages/?")
"""Where texts are sent to: any hub's name does, and none."""

Endpoint = Callable[[Request], Awaitable[Response]]


class Platform:
    """The resources. `routes` are for Starlette; `messages.send` is served without it."""

    def __init__(self, records: Records, access: Access) -> None:
        self._records = records
        self._instances = Instances(records, access)
        self.messages = Messages(records, access)

    def routes(self) -> list[Route]:
        """Every resource, its methods in one route."""
        return [
            Route(f"{BASE}{path}", self._endpoint(path, methods), methods=list(methods))
            for path, methods in self._resources()
        ]

    def _resources(self) -> list[tuple[str, Mapping[str, Endpoint]]]:
        instances, messages = self._instances, self.messages
        changes = {"PUT": instances.put, "PATCH": instances.patch, "DELETE": instances.delete}
        several = {"POST": instances.create, "GET": instances.list}
        resources: list[tuple[str, Mapping[str, Endpoint]]] = [
            ("/elements/{key}/instances", several),
            ("/instances", several | changes),
            ("/instances/{id:int}", {"GET": instances.get} | changes),
            ("/ping", {"GET": messages.ping}),
        ]
        # Without an id they act on the instance of the Element token.
        for one in ("/instances", "/instances/{id:int}"):
            resources += [
                (f"{one}/enabled", {"PUT": instances.enable, "DELETE": instances.disable}),
                (f"{one}/configuration", {"GET": instances.configuration}),
                (
                    f"{one}/configuration/{{entry:int}}",
                    {"GET": instances.entry, "PATCH": instances.patch_entry},
                ),
                (f"{one}/docs", {"GET": instances.docs}),
            ]
        for hub in ("", "/hubs/{hub}"):
            # POST is in `app`: here it only keeps 405 from claiming that there is none.
            log = {"GET": messages.log, "POST": messages.log}
            resources.append((f"{hub}/messages", log))
            resources.append((f"{hub}/messages/{{sid}}", {"GET": messages.get}))
            resources.append((f"{hub}/messages/{{sid}}/media", {"GET": messages.media}))
            if hub:
                resources.append((f"{hub}/ping", {"GET": messages.ping}))
        return resources

    def _endpoint(self, path: str, methods: Mapping[str, Endpoint]) -> Endpoint:
        called = name_of(path)

        async def endpoint(request: Request) -> Response:
            began = time.perf_counter()
            reason = ""
            # Starlette adds HEAD to GET by itself.
            serve = methods["GET" if request.method == "HEAD" else request.method]
            try:
                check_accept(request.headers.get("accept", ""))
                trouble = self._records.trouble.take(called)
                if trouble is None:
                    answer = await serve(request)
                else:
                    answer = await serve_in(trouble, partial(serve, request))
            except Refused as error:
                reason = error.summary
                answer = answer_error(error) if error.status else Unanswered("hang")
            took_ms = (time.perf_counter() - began) * 1000
            summary = f"{request.method} {request.url.path.removeprefix(BASE)}"
            self._records.wire("request", summary, answer.status_code, took_ms, reason)
            return answer

        return endpoint
