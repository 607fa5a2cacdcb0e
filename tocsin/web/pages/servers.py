"""The project's servers: the list, and how to add one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from urllib.parse import urlsplit

from litestar import Response, get
from litestar.params import QueryParameter

from tocsin.storage.accounts import accounts
from tocsin.storage.monitoring import server_list
from tocsin.storage.monitoring.server_list import ServerOverview
from tocsin.storage.postgres.database import Tx
from tocsin.web import agent, readings
from tocsin.web.render import page
from tocsin.web.session import Service, Viewer

ROWS = 25
LAST_PAGE = 100_000
JUST_NOW = timedelta(minutes=15)


@get("/servers", include_in_schema=False)
async def list_(
    viewer: Viewer, service: Service, q: str = "", number: Annotated[int, QueryParameter(name="page")] = 1
) -> Response[str]:
    number, search = min(max(number, 1), LAST_PAGE), q.strip()[:200]
    async with service.pool.acquire() as tx:
        found = await server_list.page(
            tx, viewer.project_id, search=search, limit=ROWS + 1, offset=(number - 1) * ROWS
        )
        lines: dict[str, Any] = {} if found or search or number > 1 else await _lines(tx, viewer, service)
    return page(
        "servers.html", viewer, title="Servers", rows=_rows(found[:ROWS]), search=search, number=number,
        more=len(found) > ROWS, **lines,
    )


@get("/servers/new", include_in_schema=False)
async def new(viewer: Viewer, service: Service) -> Response[str]:
    """How to install the agent; the page shows each server as it reports for the first time."""
    now = datetime.now(UTC)
    async with service.pool.acquire() as tx:
        newest = await server_list.newest(tx, viewer.project_id, limit=5)
        lines = await _lines(tx, viewer, service)
    arrived = [each for each in newest if now - each.server.created_at < JUST_NOW]
    return page("server_new.html", viewer, title="Add a server", arrived=_rows(arrived), **lines)


async def _lines(tx: Tx, viewer: Viewer, service: Service) -> dict[str, Any]:
    """The lines to copy, with the project's token except for readers."""
    projects = await accounts.projects_of(tx, service.vault, viewer.user_id)
    token = next((each.api_token for each in projects if each.id == viewer.project_id), None)
    return {
        "install": agent.lines(service.public_url, token, install=True),
        "try_out": agent.lines(service.public_url, token, install=False),
        "has_token": token is not None,
        "agent_url": f"{service.public_url}/agent",
        "only_here": urlsplit(service.public_url).hostname in ("localhost", "127.0.0.1", "::1"),
    }


def _rows(found: list[ServerOverview]) -> list[dict[str, object]]:
    now = datetime.now(UTC)
    return [
        {
            "id": each.server.id,
            "name": readings.name(each.server),
            "about": " · ".join(filter(None, (each.server.private_ip, each.server.operating_system))),
            "state": readings.state(each, now),
            "readings": readings.readings(each.server),
            "seen_at": each.seen_at,
            "gone": readings.is_gone(each, now),
        }
        for each in found
    ]


routes = [list_, new]
