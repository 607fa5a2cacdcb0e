"""What a resource depends on: changed as a whole."""

from __future__ import annotations

from uuid import UUID

from tocsin.actions.base import Actor, Change, action
from tocsin.domain import dependencies as domain
from tocsin.domain.errors import not_found
from tocsin.domain.resources.base import Resource
from tocsin.storage.notifying import depends_on
from tocsin.storage.postgres.database import Tx


@action("changed dependencies")
async def change(tx: Tx, actor: Actor, kind: Resource, key: UUID, given: object) -> tuple[None, Change | None]:
    """Let the resource depend on these alone; none, or null: on nothing. Call it before any row is locked.

    Raises `Refused`: 404, or 422 for what is no list, unknown here, a circle (it names it), or too many.
    """
    written = domain.parse(given, key)
    replaced = await depends_on.replace(tx, actor.project_id, kind, key, written)
    if replaced is None:
        raise not_found(kind.noun)
    if replaced.before == written:
        return None, None
    return None, Change(replaced.name, {"uuid": kind.public(key), "before": replaced.before, "depends_on": written})
