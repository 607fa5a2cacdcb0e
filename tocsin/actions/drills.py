"""Fire drills: a marked test incident through everything, which asks everybody to acknowledge it."""

from __future__ import annotations

from uuid import UUID

from tocsin.actions.base import Actor, Change, action
from tocsin.domain import ids, names
from tocsin.domain.errors import invalid_field, not_found
from tocsin.domain.incidents import DRILL, Incident, Opened, OpenRequest, truncated_message
from tocsin.domain.resources.base import kinds
from tocsin.storage.delivery import incidents, openings
from tocsin.storage.postgres.database import Tx

MAX_MESSAGE_LENGTH = 500
MARK = "This is a drill. Please acknowledge it."


@action("began drill")
async def begin(
    tx: Tx, actor: Actor, resource: str, message: str | None, public_url: str
) -> tuple[Incident, Change | None]:
    """The drill: an incident of the type `drill` of that resource. One that lasts already is returned as it is.

    Raises `Refused` (404, 422).
    """
    kind = next((each for each in kinds().values() if ids.parse(each.prefix, resource) is not None), None)
    if kind is None:
        raise invalid_field("drill.resource", "is not the uuid of a server or monitor of this project")
    said = names.checked("drill.message", message, MAX_MESSAGE_LENGTH) if message else ""
    text = truncated_message(f"{MARK} {said}".strip())
    wanted = OpenRequest(actor.project_id, kind.type, kind.key_of(resource), DRILL, text)
    [found] = await openings.open(tx, [wanted], public_url=public_url)
    if not isinstance(found, Opened):
        raise not_found(kind.noun)
    details = {"uuid": ids.public(ids.INCIDENT, found.incident.id)}
    return found.incident, Change(found.incident.resource_name, details) if found.new else None


async def existing(tx: Tx, actor: Actor, key: UUID) -> Incident:
    """The project's drill. Raises `Refused` (404)."""
    found = await incidents.one(tx, actor.project_id, key)
    if found is None or found.type != DRILL:
        raise not_found("drill")
    return found
