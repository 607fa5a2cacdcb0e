"""Whether the service runs, for supervisors."""

from __future__ import annotations

import asyncio
from typing import Literal

import msgspec
from litestar import get

from tocsin.api.schemas import millis
from tocsin.api.service import Service
from tocsin.domain.errors import Refused
from tocsin.storage.delivery import inner_loop
from tocsin.storage.postgres.database import UNAVAILABLE

PATIENCE = 3.0
"""Seconds after which a database that has not answered counts as unavailable."""

ENGINE_LIVES = "SELECT EXISTS (SELECT FROM engines WHERE seen_at > now() - interval '10 s')"


class Health(msgspec.Struct, omit_defaults=True):
    """`worked_at` is when an incident of the service's own was last opened, delivered and resolved, from end to end;
    `took_ms` how long that took. Left out until there was one, within the first minute.
    """

    status: Literal["ok"]
    worked_at: str | None = None
    took_ms: float | None = None


@get("/health/live", security=[])
async def live() -> Health:
    """Check whether this process runs"""
    return Health("ok")


@get("/health/ready", security=[])
async def ready(service: Service) -> Health:
    """Check whether database and engine both work

    503 with the reason otherwise.
    """
    try:
        async with asyncio.timeout(PATIENCE), service.pool.acquire() as tx:
            engine_lives = await tx.fetchval(ENGINE_LIVES)
            loop = await inner_loop.state(tx)
    except UNAVAILABLE as error:
        raise _not_ready("The database does not answer") from error
    if not engine_lives:
        raise _not_ready("No engine is running: start one with `tocsin engine` (or everything with `tocsin up`)")
    if loop.worked_at is None or loop.took is None:
        return Health("ok")
    return Health("ok", millis(loop.worked_at), round(loop.took * 1000, 1))


def _not_ready(reason: str) -> Refused:
    return Refused(503, "unavailable", reason, headers={"Retry-After": "2"})


routes = [live, ready]
