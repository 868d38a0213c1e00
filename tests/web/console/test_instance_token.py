"""The instance token on its page: after the password, once, and known to the audit trail."""

from __future__ import annotations

from typing import Any

import pytest

from service.operate import console
from service.operate.deployment import Deployment
from tests.sandboxed import bare, environ, token
from tests.web.console.conftest import PASSWORD, Desk, field_of
from tests.web.console.test_instance import PAGE, desk, kept_id, newest, post

__all__ = ["bare", "desk", "environ", "token"]

pytestmark = pytest.mark.anyio


async def test_the_token_is_shown_once_after_the_password_and_the_trail_says_to_whom(
    desk: Desk, operator: Any, bare: Deployment, token: str
) -> None:
    """Whoever finds a browser signed in would have the secret, and nobody would know."""
    await console.set_password(desk.redis, PASSWORD)
    asked = await operator.get(f"{PAGE}/token")
    assert token not in asked.text
    nothing = await post(operator, f"{PAGE}/token", password="")
    assert (nothing.status_code, token in nothing.text) == (400, False)
    wrong = await post(operator, f"{PAGE}/token", password="not the password")
    assert (wrong.status_code, token in wrong.text) == (401, False)
    assert "That is not the password." in wrong.text
    assert (await newest(desk)).what == "sign-in refused"

    shown = await post(operator, f"{PAGE}/token", password=PASSWORD)
    assert shown.status_code == 200
    assert f"<code>{token}</code>" in shown.text
    assert shown.headers["cache-control"] == "no-store"
    act = await newest(desk)
    assert (act.what, act.via) == ("connector show --token", "console")
    assert act.about == f"instance {await kept_id(bare)}"
    assert token not in (await operator.get(f"{PAGE}/token")).text
    assert token not in (await operator.get("/console/audit")).text


async def test_without_a_password_the_page_says_how_to_set_one(
    operator: Any, token: str, desk: Desk
) -> None:
    """Somebody who came by a one-time address would not know why nothing is shown."""
    page = (await operator.get(f"{PAGE}/token")).text
    assert "parley console password" in page
    assert 'type="password"' not in page
    form = {"csrf": field_of(page, "csrf"), "password": PASSWORD}
    answer = await operator.post(f"{PAGE}/token", data=form)
    assert (answer.status_code, token in answer.text) == (401, False)


async def test_a_viewers_password_shows_no_operator_the_token(
    desk: Desk, operator: Any, token: str
) -> None:
    """Whoever may only look would show it in a browser that an operator left open."""
    await console.set_password(desk.redis, PASSWORD, "viewer")
    answer = await post(operator, f"{PAGE}/token", password=PASSWORD)
    assert (answer.status_code, token in answer.text) == (401, False)
    await console.set_password(desk.redis, "another long password")
    answer = await post(operator, f"{PAGE}/token", password=PASSWORD)
    assert (answer.status_code, token in answer.text) == (401, False)


async def test_guesses_at_the_password_cost_waits(desk: Desk, operator: Any, token: str) -> None:
    """A browser left open would be a place to guess without end."""
    await console.set_password(desk.redis, PASSWORD)
    statuses = [
        (await post(operator, f"{PAGE}/token", password=f"wrong guess {guess}")).status_code
        for guess in range(7)
    ]
    assert statuses == [401] * 5 + [429] * 2
    waiting = await post(operator, f"{PAGE}/token", password=PASSWORD)
    assert (waiting.status_code, token in waiting.text) == (429, False)
    assert int(waiting.headers["retry-after"]) > 0


async def test_the_right_password_is_no_failed_sign_in(
    desk: Desk, operator: Any, token: str
) -> None:
    """Whoever shows the token a few times would lock everybody out."""
    await console.set_password(desk.redis, PASSWORD)
    for _ in range(8):
        answer = await post(operator, f"{PAGE}/token", password=PASSWORD)
        assert answer.status_code == 200
