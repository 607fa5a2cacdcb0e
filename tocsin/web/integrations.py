"""The project's integrations: the list of them."""

from __future__ import annotations

from litestar import Response, get

from tocsin.integrations import base
from tocsin.storage import integrations
from tocsin.web.render import page
from tocsin.web.session import Service, Viewer


@get("/integrations", include_in_schema=False)
async def list_(viewer: Viewer, service: Service) -> Response[str]:
    async with service.pool.acquire() as tx:
        found = await integrations.list_(tx, service.vault, viewer.project_id)
    rows = [
        (each.id, each.name or base.of(each.type).name(each.settings), base.of(each.type).label, each.disabled_reason)
        for each in found
    ]
    slack = service.settings.slack is not None
    return page("integrations.html", viewer, title="Integrations", integrations=rows, slack=slack)


routes = [list_]
