"""Who sees what: the project's monitors and the places that they are checked from, disagreement first."""

from __future__ import annotations

from typing import Annotated

from litestar import Response, get
from litestar.params import QueryParameter

from tocsin.storage.monitoring import places as stored_places
from tocsin.storage.monitoring import places_list, probe_list
from tocsin.storage.monitoring.places_list import Mapped
from tocsin.web import places
from tocsin.web.formatting import milliseconds
from tocsin.web.messages import MONITORS_PATH
from tocsin.web.readings import unreachable
from tocsin.web.render import page
from tocsin.web.session import Service, Viewer

ROWS = 20
LAST_PAGE = 100_000
MAX_PLACES = 20
"""Columns; what others saw is on each monitor's page."""
SHOWN = {"": "All monitors", "disagree": "Where places disagree"}


@get("/map", include_in_schema=False)
async def show(
    viewer: Viewer,
    service: Service,
    q: str = "",
    only: str = "",
    number: Annotated[int, QueryParameter(name="page")] = 1,
) -> Response[str]:
    number, search = min(max(number, 1), LAST_PAGE), q.strip()[:200]
    only = only if only in SHOWN else ""
    async with service.pool.acquire() as tx:
        used = await places_list.in_use(tx, viewer.project_id)
        known = await probe_list.ids_of(tx, used[1:])
        found, total, disagreed = await places_list.page(
            tx, viewer.project_id, search=search, disagreed=only == "disagree", limit=ROWS, offset=(number - 1) * ROWS
        )
        has_probes = bool(known) or bool(await stored_places.known(tx, viewer.project_id))
    return page(
        "map.html", viewer, title="Who sees what", section=MONITORS_PATH, rows=found, search=search, only=only,
        shown=SHOWN, number=number, more=total > number * ROWS, total=total, disagreed=disagreed,
        columns=[(each, places.called(each), known.get(each)) for each in used[:MAX_PLACES]],
        left_out=max(0, len(used) - MAX_PLACES), has_probes=has_probes, verdict=verdict, state=places.state,
        milliseconds=milliseconds, url=service.public_url,
    )  # fmt: skip


def verdict(monitor: Mapped) -> tuple[str, str]:
    """The badge of what all of them together come to."""
    if monitor.paused:
        return "", "paused"
    if monitor.failing:
        return unreachable(monitor.explained_by) if monitor.explained_by else ("bad", "down")
    return ("ok", "up") if any(each.heard_at for each in monitor.seen.values()) else ("warn", "not up yet")


routes = [show]
