"""Open Connectors as far as Parley uses it: every resource under one base path."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.lab.sandbox.access import Access
from service.lab.sandbox.answers import Refused, Unanswered, answer_error, check_accept
from service.lab.sandbox.formulas import Formulas
from service.lab.sandbox.instances import Instances
from service.lab.sandbox.messages import Messages
from service.lab.sandbox.outage import name_of, serve_in
from service.lab.sandbox.records import Records
from service.lab.sandbox.resources import Resources
from service.lab.sandbox.wire import Exchange

BASE = "/elements/api-v2"

MESSAGES = re.compile(rf"{BASE}(/hubs/[^/]+)?/messages/?")
"""Where texts are sent to: any hub's name does, and none."""

Endpoint = Callable[[Request], Awaitable[Response]]


class Platform:
    """The resources. `routes` are for Starlette; `messages.send` is served without it."""

    def __init__(self, records: Records, access: Access) -> None:
        self._records = records
        self._instances = Instances(records, access)
        self._common = Resources(records, access)
        self._formulas = Formulas(records, access)
        self.messages = Messages(records, access)

    def routes(self) -> list[Route]:
        """Every resource, its methods in one route."""
        return [
            Route(f"{BASE}{path}", self._endpoint(path, methods), methods=list(methods))
            for path, methods in self._resources()
        ]

    def _resources(self) -> list[tuple[str, Mapping[str, Endpoint]]]:
        return [*self._of_instances(), *self._of_mappings(), *self._of_formulas(), *self._of_hubs()]

    def _of_instances(self) -> Iterator[tuple[str, Mapping[str, Endpoint]]]:
        instances = self._instances
        changes = {"PUT": instances.change, "PATCH": instances.change, "DELETE": instances.delete}
        several = {"POST": instances.create, "GET": instances.list}
        yield "/elements/{key}", {"GET": instances.element}
        # Without an id they act on the instance of the Element token.
        yield "/instances", several | changes
        yield "/elements/{key}/instances", several
        one = "/instances/{id:int}"
        for path in ("/instances", one, f"/elements/{{key}}{one}"):
            if path != "/instances":
                yield path, {"GET": instances.get} | changes
            yield f"{path}/enabled", {"PUT": instances.enable, "DELETE": instances.disable}
            yield f"{path}/configuration", {"GET": instances.configuration}
            entry = {"GET": instances.entry, "PATCH": instances.patch_entry}
            yield f"{path}/configuration/{{entry:int}}", entry
            yield f"{path}/docs", {"GET": instances.docs}

    def _of_mappings(self) -> Iterator[tuple[str, Mapping[str, Endpoint]]]:
        resources = self._common
        defined = {
            "POST": resources.define,
            "PUT": resources.define,
            "GET": resources.definition,
            "DELETE": resources.undefine,
        }
        mapped = {
            "POST": resources.transform,
            "PUT": resources.transform,
            "GET": resources.transformation,
            "DELETE": resources.untransform,
        }
        yield "/common-resources", {"GET": resources.list}
        for level in ("/organizations", "/instances/{id:int}"):
            yield f"{level}/objects/definitions", {"GET": resources.definitions}
            yield f"{level}/objects/{{name}}/definitions", defined
        for level in ("/organizations/elements/{key}", "/instances/{id:int}"):
            yield f"{level}/transformations", {"GET": resources.transformations}
            yield f"{level}/transformations/{{name}}", mapped

    def _of_formulas(self) -> Iterator[tuple[str, Mapping[str, Endpoint]]]:
        formulas = self._formulas
        one = "/formulas/{id:int}/instances/{instance:int}"
        yield "/formulas", {"POST": formulas.create, "GET": formulas.list}
        yield "/formulas/instances", {"GET": formulas.using}
        yield "/formulas/{id:int}", {"GET": formulas.get, "DELETE": formulas.delete}
        several = {"POST": formulas.instantiate, "GET": formulas.instances}
        yield "/formulas/{id:int}/instances", several
        yield one, {"GET": formulas.instance, "DELETE": formulas.remove}
        yield f"{one}/active", {"PUT": formulas.activate, "DELETE": formulas.deactivate}

    def _of_hubs(self) -> Iterator[tuple[str, Mapping[str, Endpoint]]]:
        messages = self.messages
        for hub in ("", "/hubs/{hub}"):
            yield f"{hub}/ping", {"GET": messages.ping}
            # POST is in `app`: here it only keeps 405 from claiming that there is none.
            yield f"{hub}/messages", {"GET": messages.log, "POST": messages.log}
            yield f"{hub}/messages/{{sid}}", {"GET": messages.get}
            yield f"{hub}/messages/{{sid}}/media", {"GET": messages.media}
        yield "/hubs/{hub}/{name}", {"GET": messages.resource}

    def _endpoint(self, path: str, methods: Mapping[str, Endpoint]) -> Endpoint:
        called = name_of(path)

        async def endpoint(request: Request) -> Response:
            began = time.perf_counter()
            reason, raw = "", b""
            # Starlette adds HEAD to GET by itself.
            serve = methods["GET" if request.method == "HEAD" else request.method]
            try:
                check_accept(request.headers.get("accept", ""))
                # Starlette keeps it, so that who serves the request reads it again.
                raw = await request.body()
                trouble = self._records.trouble.take(called)
                if trouble is None:
                    answer = await serve(request)
                else:
                    answer = await serve_in(trouble, partial(serve, request))
            except Refused as error:
                reason = error.summary
                # Whoever found the instance left its id; an error of it names it as well.
                error.instance_id = error.instance_id or getattr(request.state, "instance_id", None)
                answer = answer_error(error) if error.status else Unanswered("hang")
            took_ms = (time.perf_counter() - began) * 1000
            summary = f"{request.method} {request.url.path.removeprefix(BASE)}"
            sent = request.headers.raw
            exchange = Exchange(sent, raw, answer.raw_headers, bytes(answer.body))
            if answer.status_code == 0:
                exchange = Exchange(sent, raw)
            status = answer.status_code
            self._records.wire("request", summary, status, took_ms, exchange, note=reason)
            return answer

        return endpoint
