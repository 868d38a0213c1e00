"""The instance's own API description, as a reference to read."""

from __future__ import annotations

from service.core.open_connectors.api_reference import ApiReference, read_reference
from service.errors import ConnectorFailed
from service.operate.deployment import Deployment
from service.operate.instance import open_instance


async def read_api(deployment: Deployment) -> ApiReference:
    """Read `GET /instances/{id}/docs` of our instance.

    Raises SettingsError without an instance, ConnectorError, StoreUnavailable, StoreMismatch.
    """
    async with open_instance(deployment) as (connector, instance):
        docs = connector.without_secrets(await connector.describe_instance(instance.id))
    reference = read_reference(docs)
    if reference is None:
        raise ConnectorFailed("the instance's API description describes no operation")
    return reference
