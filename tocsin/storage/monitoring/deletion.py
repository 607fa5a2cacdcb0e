"""What is told of a server or monitor, and what names it, before it is deleted."""

from __future__ import annotations

from uuid import UUID

from tocsin.domain.resources.base import Resource
from tocsin.storage.delivery import incidents
from tocsin.storage.notifying import depends_on, silences
from tocsin.storage.postgres.database import Tx


async def forget(tx: Tx, project_id: UUID, kind: Resource, resource_id: UUID) -> None:
    """Resolve its incidents, and take it out of what names it. The project's lock (`depends_on`) and its row are held.

    Locks are taken in the order of every other transaction: what names it, what is ongoing, deliveries.
    """
    await depends_on.unname(tx, kind, resource_id)
    await silences.hold_naming(tx, "resources", project_id, resource_id)
    await incidents.forget_resource(tx, project_id, resource_id)
    await depends_on.forget(tx, resource_id)
    await silences.forget_resource(tx, project_id, resource_id)
