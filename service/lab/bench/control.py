"""Asks the deployment's own listeners, and the sandbox, for JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from service.errors import ParleyError
from service.lab.http1 import Client, NoAnswer, NotSent

CONTROL_TIMEOUT_S = 30.0


class BenchFailed(ParleyError):
    """Nothing could be measured; the text says why."""


class Control:
    """Asks one of our own listeners for JSON."""

    def __init__(self, address: str, name: str) -> None:
        self._client = Client(address, connections=1, connect_timeout_s=CONTROL_TIMEOUT_S)
        self._address = address
        self._name = name

    async def get(self, path: str) -> Any:
        """GET; another process may answer each time. Raises BenchFailed."""
        return await self._ask("GET", path, {"Connection": "close"}, b"")

    async def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """POST JSON. Raises BenchFailed."""
        headers = {"Content-Type": "application/json"}
        return await self._ask("POST", path, headers, json.dumps(body).encode())

    async def aclose(self) -> None:
        """Close the connection."""
        await self._client.aclose()

    async def _ask(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Any:
        where = f"{self._name}, {self._address}{path}"
        try:
            answer = await self._client.request(
                method, path, headers, body, timeout_s=CONTROL_TIMEOUT_S
            )
        except (NotSent, NoAnswer) as error:
            raise BenchFailed(f"{where}: {error}") from error
        if answer.status != 200:
            raise BenchFailed(f"{where}: answered {answer.status}")
        try:
            return json.loads(answer.body)
        except ValueError as error:
            raise BenchFailed(f"{where}: the answer is no JSON") from error
