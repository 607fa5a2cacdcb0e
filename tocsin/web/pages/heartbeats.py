"""The project's heartbeats: the list, adding one, and the key for pings by slug."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from litestar import Response, get, post
from litestar.params import QueryParameter

from tocsin.actions import heartbeats as actions
from tocsin.domain.errors import Refused
from tocsin.domain.resources.heartbeat import RESOURCE as HEARTBEAT
from tocsin.storage.monitoring import heartbeats
from tocsin.storage.monitoring.heartbeats import Sort
from tocsin.storage.postgres.database import transaction
from tocsin.web import heartbeat_form as form_of
from tocsin.web.formatting import milliseconds
from tocsin.web.render import page
from tocsin.web.session import AnyRequest, Service, Viewer, fields, redirect

ROWS = 25
LAST_PAGE = 100_000
SORTS: Mapping[str, tuple[str, Sort]] = {
    "status": ("Problems first", "status"), "name": ("By name", "name"), "created_at": ("Newest first", "created_at"),
}  # fmt: skip


@get("/heartbeats", include_in_schema=False)
async def list_(
    viewer: Viewer,
    service: Service,
    q: str = "",
    sort: str = "status",
    number: Annotated[int, QueryParameter(name="page")] = 1,
) -> Response[str]:
    number, search = min(max(number, 1), LAST_PAGE), q.strip()[:200]
    sort = sort if sort in SORTS else "status"
    async with service.pool.acquire() as tx:
        found, total = await heartbeats.list_(
            tx, service.vault, viewer.project_id, search=search, sort=SORTS[sort][1], limit=ROWS,
            offset=(number - 1) * ROWS,
        )  # fmt: skip
        key = await heartbeats.ping_key(tx, service.vault, viewer.project_id) if viewer.writes else None
    return page(
        "heartbeats.html", viewer, title="Heartbeats", rows=found, search=search, sort=sort, number=number,
        sorts={name: words for name, (words, _) in SORTS.items()}, more=total > number * ROWS, state=form_of.state,
        described=form_of.described, milliseconds=milliseconds,
        slug_url=f"{service.public_url}/ping/{key}/SLUG?create=1" if key else None,
    )  # fmt: skip


@get("/heartbeats/new", include_in_schema=False)
async def new(viewer: Viewer, service: Service) -> Response[str]:
    return _form(viewer, service, form_of.FRESH)


@post("/heartbeats", include_in_schema=False)
async def create(request: AnyRequest, viewer: Viewer, service: Service) -> Response[str]:
    form = await fields(request, viewer)
    try:
        typed = form_of.given(form)
        wanted = actions.wanted(typed, None, production=service.settings.production)
        async with transaction(service.pool) as tx:
            made = await actions.create(tx, viewer.actor, service.vault, wanted)
    except Refused as refused:
        return _form(viewer, service, form, form_of.errors(refused))
    return redirect(
        f"/heartbeats/{HEARTBEAT.public(made.id)}", f"{wanted.name} is expected to report from its first ping on."
    )


@post("/heartbeats/ping_key", include_in_schema=False)
async def new_ping_key(request: AnyRequest, viewer: Viewer, service: Service) -> Response[str]:
    """Makes the project's ping key, or another."""
    await fields(request, viewer)
    async with transaction(service.pool) as tx:
        await actions.new_ping_key(tx, viewer.actor, service.vault)
    return redirect("/heartbeats#by-slug", "This is the new ping key. An older one has stopped working.")


def _form(
    viewer: Viewer, service: Service, values: Mapping[str, str], errors: Mapping[str, str] | None = None
) -> Response[str]:
    return page(
        "heartbeat_new.html", viewer, title="Add a heartbeat", status_code=422 if errors else 200, values=values,
        errors=errors or {}, least=actions.least_period(production=service.settings.production),
    )  # fmt: skip


routes = [list_, new, create, new_ping_key]
