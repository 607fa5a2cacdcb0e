"""The project's sources: the list, and adding one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from litestar import Response, get, post
from litestar.params import QueryParameter

from tocsin.actions import sources as actions
from tocsin.domain.errors import Refused
from tocsin.domain.resources.source import RESOURCE as SOURCE
from tocsin.domain.sources.base import types
from tocsin.storage.monitoring import sources
from tocsin.storage.monitoring.sources import Source
from tocsin.storage.postgres.database import transaction
from tocsin.web import messages, source_form
from tocsin.web.render import page
from tocsin.web.session import AnyRequest, Service, Viewer, fields, redirect

ROWS = 25
LAST_PAGE = 100_000


@get("/sources", include_in_schema=False)
async def list_(
    viewer: Viewer, service: Service, number: Annotated[int, QueryParameter(name="page")] = 1
) -> Response[str]:
    number = min(max(number, 1), LAST_PAGE)
    async with service.pool.acquire() as tx:
        found, total = await sources.list_(
            tx, service.vault, viewer.project_id, limit=ROWS, offset=(number - 1) * ROWS
        )
    rows = [
        {"uuid": SOURCE.public(each.id), "name": each.wanted.name, "kind": types()[each.wanted.type].label,
         "state": state(each), "last_body_at": each.last_body_at}
        for each in found
    ]  # fmt: skip
    return page(
        "sources.html", viewer, title="Sources", rows=rows, number=number, more=total > number * ROWS, total=total
    )


@get("/sources/new", include_in_schema=False)
async def new(viewer: Viewer) -> Response[str]:
    return _form(viewer, {})


@post("/sources", include_in_schema=False)
async def create(request: AnyRequest, viewer: Viewer, service: Service) -> Response[str]:
    """Leads to its page, which says what to paste where."""
    form = await fields(request, viewer)
    try:
        wanted = actions.wanted(source_form.new(form), None)
        async with transaction(service.pool) as tx:
            made = await actions.create(tx, viewer.actor, service.vault, wanted)
    except Refused as refused:
        return _form(viewer, form, source_form.errors(refused))
    return redirect(SOURCE.page(made.id), messages.SOURCE_MADE.format(name=wanted.name))


def state(source: Source) -> tuple[str, str]:
    """The badge: its kind (`ok`, `warn`, `bad`) and its text."""
    if source.ongoing:
        many = f"{source.ongoing:,}{'+' if source.ongoing == sources.MANY else ''}"
        return "bad", f"{many} alert{'s' if source.ongoing > 1 else ''}"
    return ("ok", "no alerts") if source.last_body_at else ("", "nothing yet")


def _form(viewer: Viewer, values: Mapping[str, str], errors: Mapping[str, str] | None = None) -> Response[str]:
    return page(
        "source_new.html", viewer, title="Add a source", status_code=422 if errors else 200, values=values,
        errors=errors or {}, kinds=types().values(),
    )


routes = [list_, new, create]
