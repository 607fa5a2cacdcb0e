"""Acknowledging an incident by the link in its mail."""

from __future__ import annotations

from litestar import Response, get, post

from tocsin.actions import replies
from tocsin.actions.base import system
from tocsin.domain import names
from tocsin.domain.incidents import Incident
from tocsin.storage.accounts import links
from tocsin.storage.delivery import incidents
from tocsin.storage.postgres.database import transaction
from tocsin.web.render import broken, message
from tocsin.web.session import Service

GONE = "This incident, or the integration that was notified of it, does not exist any more."


@get("/acknowledge", include_in_schema=False)
async def ask_acknowledge(service: Service, token: str = "") -> Response[str]:
    """May be opened by a person or by a link scanner: changes nothing."""
    link = links.read_acknowledgement(service.vault, token)
    if link is None:
        return broken()
    async with service.pool.acquire() as tx:
        to = await replies.recipient(tx, service.vault, link)
        incident = await incidents.one(tx, to.project_id, link.incident_id) if to is not None else None
    if incident is None or incident.closed_at is not None or incident.acknowledged_by is not None:
        return _standing(incident)
    return message(
        "Do you have it?", f"{_what(incident)}: {incident.message}",
        "Then nobody further is notified of this incident, and nobody is reminded of it.",
        form="acknowledge", token=token,
    )  # fmt: skip


@post("/acknowledge", include_in_schema=False, status_code=200)
async def acknowledge(service: Service, token: str = "") -> Response[str]:
    """By the button."""
    link = links.read_acknowledgement(service.vault, token)
    if link is None:
        return broken()
    async with transaction(service.pool) as tx:
        incident = await replies.by_link(tx, system(), service.vault, link)
    return _standing(incident)


def _standing(incident: Incident | None) -> Response[str]:
    if incident is None:
        return message("Not there any more", GONE)
    if incident.closed_at is not None:
        return message("Resolved", f"{_what(incident)} is resolved already.")
    return message("Somebody has it", f"{incident.acknowledged_by} has it: {_what(incident)}.")


def _what(incident: Incident) -> str:
    return names.line(f"{incident.type} on {incident.resource_name}")


routes = [ask_acknowledge, acknowledge]
