"""The what-if: who would be notified of an incident, when, and why not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

import msgspec
from litestar import get
from litestar.handlers import HTTPRouteHandler
from litestar.params import Parameter

from tocsin.actions import attachments as actions
from tocsin.actions.base import Actor
from tocsin.api.schemas import CODE, seconds
from tocsin.api.service import Service
from tocsin.domain import ids
from tocsin.domain.errors import invalid_field
from tocsin.domain.incidents import Severity
from tocsin.domain.resources.base import Resource, kinds
from tocsin.integrations import base
from tocsin.storage.channels import integrations
from tocsin.storage.notifying import plans
from tocsin.storage.notifying.plans import Planned
from tocsin.storage.postgres.database import transaction

FAR = timedelta(days=366)


class PlannedShown(msgspec.Struct):
    """One integration of the project. `at` is when it would be notified, `why_not` why it would not be, or, where it
    waits for more than its `after`, why not before.

    `on_duty` is the uuid of the integration that an on-call one would pass it on to.
    """

    integration_uuid: str
    name: str
    type: str
    attached: Literal["directly", "to everything"] | None
    after: int
    repeat: int | None
    notified: bool
    at: str | None
    why_not: str | None
    on_duty: str | None


class Plan(msgspec.Struct):
    data: list[PlannedShown]


def shown(each: Planned, name: str) -> PlannedShown:
    how = each.attachment
    return PlannedShown(
        integration_uuid=ids.public(ids.INTEGRATION, each.integration_id),
        name=name,
        type=each.type,
        attached=None if how is None else ("to everything" if how.to_everything else "directly"),
        after=how.after if how else 0,
        repeat=how.repeat if how else None,
        notified=each.at is not None,
        at=seconds(each.at),
        why_not=each.why_not or each.held_back,
        on_duty=None if each.on_duty is None else ids.public(ids.INTEGRATION, each.on_duty),
    )


def _route(kind: Resource) -> HTTPRouteHandler:
    @get(
        f"/api/v1{kind.path}/{{uuid:str}}/notification_plan", operation_id=f"plan_notifications_of_{kind.noun}",
        summary=f"Say who would be notified of an incident of a {kind.label}",
    )  # fmt: skip
    async def plan(
        uuid: str,
        caller: Actor,
        service: Service,
        incident_type: Annotated[str, Parameter(min_length=1, max_length=64, pattern=CODE)] = "downtime",
        severity: Severity = "critical",
        at: Annotated[datetime | None, Parameter(description="When it would begin; now, if it is left out.")] = None,
    ) -> Plan:
        """Everybody of the project, in the order in which they would be notified of an incident that nobody
        acknowledges; then those who would not be, with the reason.
        """
        now = datetime.now(UTC)
        began = now if at is None else (at if at.tzinfo else at.replace(tzinfo=UTC))
        if not abs(began - now) < FAR:
            raise invalid_field("at", "must be a time within a year from now")
        async with transaction(service.pool) as tx:
            resource = await actions.locked_resource(tx, caller.project_id, kind, uuid)
            found = await plans.plan(tx, caller.project_id, kind, resource, incident_type, severity, began)
            known = await integrations.these(
                tx, service.vault, caller.project_id, [each.integration_id for each in found]
            )
        names = {each.id: base.display_name(each) for each in known}
        return Plan([shown(each, names.get(each.integration_id, each.type)) for each in found])

    return plan


routes: list[Any] = [_route(kind) for kind in kinds().values()]
