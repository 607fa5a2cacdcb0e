"""One probe: whether it lives, what it checks, how it is run, who is told when it is silent, and revoking it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from litestar import Response, get, post

from tocsin.actions import probes as actions
from tocsin.domain.errors import not_found
from tocsin.domain.resources.probe import RESOURCE as PROBE
from tocsin.storage.monitoring import places as stored_places
from tocsin.storage.monitoring import probe_list, resources
from tocsin.storage.monitoring.probe_list import ShownProbe
from tocsin.storage.postgres.database import Tx, transaction
from tocsin.web import attachment_form, messages, places
from tocsin.web.formatting import milliseconds
from tocsin.web.messages import MONITORS_PATH
from tocsin.web.pages import attachments, dependencies, silence
from tocsin.web.ranges import MAX_INCIDENTS
from tocsin.web.render import page
from tocsin.web.session import AnyRequest, Service, Viewer, fields, redirect

PAST = timedelta(days=30)
MAX_MONITORS = 20
"""Of those that it checks, on its page; the map has all."""


@get("/probes/{uuid:str}", include_in_schema=False)
async def show(uuid: str, request: AnyRequest, viewer: Viewer, service: Service) -> Response[str]:
    now = datetime.now(UTC)
    async with service.pool.acquire() as tx:
        found = await _existing(tx, viewer, uuid)
        checked = await probe_list.monitors(tx, viewer.project_id, found.name, limit=MAX_MONITORS)
        seen = await stored_places.of_monitors(tx, [each.id for each in checked])
        in_use = await stored_places.used_by(tx, found.name) if viewer.operator else found.monitors
        own: dict[str, Any] = {}
        if found.project_id == viewer.project_id:
            past = await resources.incidents_of(tx, viewer.project_id, found.id, since=now - PAST)
            own = {
                "incidents": past[:MAX_INCIDENTS], "plan_form": attachment_form,
                "plan": await attachments.plan(tx, service, viewer, PROBE, found.id, request),
                "silences": await silence.of_resource(tx, viewer.project_id, found.id),
                "family": await dependencies.family(tx, viewer.project_id, found.id, found.depends_on),
            }  # fmt: skip
    what = [(each, one) for each in checked for one in seen.get(each.id, ()) if one.place == found.name]
    return page(
        "probe.html", viewer, title=found.name, section=MONITORS_PATH, uuid=uuid, probe=found, checked=what,
        current_status=places.probe_state(found, now), state=places.state, in_use=in_use, own=bool(own),
        line=places.line(service.public_url),
        only_here=places.only_here(service.public_url), milliseconds=milliseconds, **own,
    )  # fmt: skip


@post("/probes/{uuid:str}/revoke", include_in_schema=False)
async def revoke(uuid: str, request: AnyRequest, viewer: Viewer, service: Service) -> Response[str]:
    """Its token opens nothing any more. For the operator alone, whatever project they look at."""
    await fields(request, viewer, readers=True)
    async with transaction(service.pool) as tx:
        found = await _existing(tx, viewer, uuid)
        done = await actions.revoke(tx, viewer.person, found.name)
    many = f"{done.unchecked:,} monitors are" if done.unchecked > 1 else "a monitor is"
    warning = f"{many} checked by nobody now" if done.unchecked else None
    return redirect(f"/probes/{uuid}", messages.PROBE_REVOKED.format(name=found.name), warning=warning)


async def _existing(tx: Tx, viewer: Viewer, uuid: str) -> ShownProbe:
    found = await probe_list.one(tx, viewer.project_id, PROBE.key_of(uuid), everyones=viewer.operator)
    if found is None:
        raise not_found("probe")
    return found


routes = [show, revoke]
