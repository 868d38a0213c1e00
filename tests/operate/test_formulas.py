"""Formulas on the instance, at the real sandbox."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from service.errors import UsageError
from service.operate.deployment import Deployment
from service.operate.formulas import create, find, list_formulas, remove

pytestmark = pytest.mark.anyio

TEMPLATE: dict[str, Any] = {
    "name": "Texts to CRM",
    "configuration": [
        {"key": "texts", "name": "Texts of", "type": "elementInstance"},
        {"key": "every", "name": "Minutes", "type": "value"},
    ],
}


async def test_open_connectors_fact_16_a_formula_is_put_to_work_listed_and_removed(
    deployment: Deployment, platform: Callable[..., Awaitable[Any]]
) -> None:
    """The documentation's next step could not be taken."""
    template = await platform("POST", "/formulas", TEMPLATE)
    before = await list_formulas(deployment)
    assert [(each.id, len(each.variables)) for each in before.templates] == [
        (str(template["id"]), 2)
    ]
    assert before.at_work == ()

    made = await create(deployment, "texts to crm", {"every": "5"}, None)

    assert made.name == "Texts to CRM of Parley"
    (row,) = await platform("GET", f"/formulas/{template['id']}/instances")
    assert row["configuration"] == {"texts": before.instance, "every": "5"}
    assert [each.id for each in (await list_formulas(deployment)).at_work] == [made.id]
    await remove(deployment, await find(deployment, made.id))
    assert await platform("GET", f"/formulas/{template['id']}/instances") == []
    with pytest.raises(UsageError, match="there is none"):
        await find(deployment, made.id)


async def test_formulas_of_other_instances_are_left_alone(
    deployment: Deployment, platform: Callable[..., Awaitable[Any]]
) -> None:
    """A wrong number would end somebody else's work."""
    other = await platform(
        "POST",
        "/instances",
        {
            "name": "other",
            "element": {"key": "twiliov2"},
            "configuration": {"username": "x", "password": "y"},
        },
    )
    template = await platform("POST", "/formulas", TEMPLATE)
    theirs = await platform(
        "POST",
        f"/formulas/{template['id']}/instances",
        {"name": "theirs", "configuration": {"texts": other["id"], "every": "5"}},
    )

    assert (await list_formulas(deployment)).at_work == ()
    with pytest.raises(UsageError, match="no such formula uses our instance"):
        await find(deployment, str(theirs["id"]))


async def test_a_formula_without_its_values_is_not_made(
    deployment: Deployment, platform: Callable[..., Awaitable[Any]]
) -> None:
    """The platform's refusal would not say which option is missing."""
    template = await platform("POST", "/formulas", TEMPLATE)
    with pytest.raises(UsageError, match="every"):
        await create(deployment, str(template["id"]), {}, "mine")
    with pytest.raises(UsageError, match="TEMPLATE nothing"):
        await create(deployment, "nothing", {}, None)
    assert await platform("GET", f"/formulas/{template['id']}/instances") == []
