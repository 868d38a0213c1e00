"""The form of a request by hand: what somebody typed, and the request it means. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

from service.core.open_connectors.api_reference import ApiOperation
from service.core.open_connectors.hub_request import LONGEST_PATH, HubRequest, read_request
from service.errors import UsageError

PLACES = ("path", "query")
"""Where what is typed into a field of its own goes to."""

PLACEHOLDER = re.compile(r"\{([^{}/]+)\}")

FIELDS: Mapping[str, str] = {
    "METHOD": "method",
    "PATH": "path",
    "--query": "query",
    "--data": "data",
}
"""The words of `parley connector request`, by which an error names them, and the form's fields."""

WORDS = re.compile(r"(METHOD|PATH|--query|--data)\b.*?: (.*)", re.DOTALL)


ONE_PART = (
    'is one part of the path: without "/", "\\", "#", "?" and blanks, written plainly or as '
    'escapes, and not "." or ".."'
)
"""What is wrong with a value that would lead elsewhere, or end the path."""


class FormProblem(UsageError):
    """A field of a form is off. where: its name. text: what is wrong, and what is meant."""

    def __init__(self, where: str, text: str) -> None:
        super().__init__(text)
        self.where = where
        self.text = text


@dataclass(frozen=True, slots=True)
class RequestField:
    """A parameter with a field of its own. kind, required, description: as they are described."""

    place: str
    name: str
    value: str = field(default="", repr=False)
    kind: str = ""
    required: bool = False
    description: str = ""

    @property
    def key(self) -> str:
        """What it is called in the form."""
        return f"{self.place}:{self.name}"


@dataclass(frozen=True, slots=True)
class RequestForm:
    """What somebody typed.

    operation: the one it was begun from, "" for none. path: with {names} of what goes into it.
    query: lines of name=value, besides the parameters that have fields. data: JSON, or empty.
    """

    method: str = "GET"
    path: str = ""
    fields: tuple[RequestField, ...] = ()
    query: str = field(default="", repr=False)
    data: str = field(default="", repr=False)
    operation: str = ""

    def request(self) -> HubRequest:
        """Make the request. Raises FormProblem."""
        path, pairs = self._path(), self._pairs()
        try:
            return read_request(self.method, path, pairs, self.data if self.data.strip() else None)
        except UsageError as error:
            found = WORDS.fullmatch(str(error))
            if found is None:
                raise FormProblem("path", str(error)) from error
            raise FormProblem(FIELDS[found[1]], found[2]) from error

    @property
    def command(self) -> str:
        """The command that asks the same."""
        words = ["parley", "connector", "request", self.method, self._filled()]
        for pair in self._pairs():
            words += ["--query", pair]
        if self.data.strip():
            words += ["--data", " ".join(self.data.split("\n"))]
        return shlex.join(words)

    def _path(self) -> str:
        values = {each.name: each.value for each in self.fields if each.place == "path"}
        for name in PLACEHOLDER.findall(self.path):
            if not values.get(name):
                where = f"path:{name}" if name in values else "path"
                raise FormProblem(where, f"the path has {{{name}}}: say what goes there")
            _check_part(name, values[name])
        return self._filled()

    def _filled(self) -> str:
        values = {each.name: each.value for each in self.fields if each.place == "path"}
        return PLACEHOLDER.sub(
            lambda found: quote(values[found[1]], safe="") if values.get(found[1]) else found[0],
            self.path.strip(),
        )

    def _pairs(self) -> list[str]:
        asked = [each for each in self.fields if each.place == "query" and each.value]
        lines = [line.strip() for line in self.query.splitlines()]
        return [*(f"{each.name}={each.value}" for each in asked), *filter(None, lines)]


def _check_part(name: str, value: str) -> None:
    """Try alone what goes into a path. Raises FormProblem, at its own field."""
    part = quote(value, safe="")
    if len(part) > LONGEST_PATH:
        raise FormProblem(f"path:{name}", f"longer than {LONGEST_PATH} characters, as an address")
    try:
        read_request("GET", f"/messages/{part}")
    except UsageError as error:
        raise FormProblem(f"path:{name}", ONE_PART) from error


def form_of(operation: ApiOperation) -> RequestForm:
    """Begin a form for an operation, with what its example asks."""
    return RequestForm(
        method=operation.method,
        path=operation.path,
        fields=tuple(
            RequestField(
                each.place,
                each.name,
                "5" if each.name == "pageSize" else "",
                each.kind,
                each.required,
                each.description,
            )
            for each in operation.parameters
            if each.place in PLACES
        ),
        data=operation.sample_body,
        operation=operation.id,
    )


def read_form_of_request(form: Mapping[str, str]) -> RequestForm:
    """Read what was typed, right or wrong."""
    return RequestForm(
        method=form.get("method", "").strip() or "GET",
        path=form.get("path", "").strip(),
        fields=tuple(_fields(form)),
        query=form.get("query", "").replace("\r\n", "\n"),
        data=form.get("data", "").replace("\r\n", "\n"),
        operation=form.get("operation", ""),
    )


def _fields(form: Mapping[str, str]) -> Iterator[RequestField]:
    for key, value in form.items():
        place, colon, name = key.partition(":")
        if colon and name and place in PLACES:
            yield RequestField(place, name, value.strip())
