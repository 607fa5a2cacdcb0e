"""SSH server restarts: trusting a machine's new host key, which only a person may do."""

from __future__ import annotations

from typing import Annotated

import msgspec
from litestar import post

from tocsin.actions import integrations
from tocsin.actions.base import Actor
from tocsin.api.integrations import IntegrationShown, reveals, shown
from tocsin.api.service import Service
from tocsin.domain import ids
from tocsin.storage.postgres.database import transaction


class HostKeyToTrust(msgspec.Struct):
    """The fingerprint of the key that was offered last, so that no other is trusted by mistake."""

    fingerprint: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]


@post("/api/v1/integrations/{uuid:str}/trust_host_key", status_code=200)
async def trust_host_key(uuid: str, data: HostKeyToTrust, caller: Actor, service: Service) -> IntegrationShown:
    """Trust a machine's new host key

    A restart or test that is offered another host key than the first one fails, and names both fingerprints;
    `offered_host_key_fingerprint` among the settings is the one to send here.
    """
    key = ids.key_of(ids.INTEGRATION, uuid)
    async with transaction(service.pool) as tx:
        changed = await integrations.trust_host_key(tx, caller, service.vault, key, data.fingerprint)
    return shown(changed, reveal=reveals(caller, service))


routes = [trust_host_key]
