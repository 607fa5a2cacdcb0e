"""The places that monitors may be checked from: the list, and which commands add one."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from litestar import Response, get
from litestar.params import QueryParameter

from tocsin.domain.resources.probe import RESOURCE as PROBE
from tocsin.storage.monitoring import probe_list
from tocsin.web import places
from tocsin.web.messages import MONITORS_PATH
from tocsin.web.render import page
from tocsin.web.session import Service, Viewer

ROWS = 25
LAST_PAGE = 100_000


@get("/probes", include_in_schema=False)
async def list_(
    viewer: Viewer, service: Service, number: Annotated[int, QueryParameter(name="page")] = 1
) -> Response[str]:
    number, now = min(max(number, 1), LAST_PAGE), datetime.now(UTC)
    async with service.pool.acquire() as tx:
        found = await probe_list.list_(
            tx, viewer.project_id, everyones=viewer.operator, limit=ROWS + 1, offset=(number - 1) * ROWS
        )
    rows = [(PROBE.public(each.id), each, places.probe_state(each, now)) for each in found[:ROWS]]
    return page(
        "probes.html", viewer, title="Probes", section=MONITORS_PATH, rows=rows, number=number, more=len(found) > ROWS,
        line=places.line(service.public_url),
        only_here=places.only_here(service.public_url),
    )  # fmt: skip


routes = [list_]
