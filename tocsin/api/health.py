"""Whether the service runs, for supervisors."""

from __future__ import annotations

import asyncio
from typing import Literal

import msgspec
from litestar import get

from tocsin.api.service import Service
from tocsin.domain.errors import Refused
from tocsin.storage.postgres.database import UNAVAILABLE

PATIENCE = 3.0
"""Seconds after which a database that has not answered counts as unavailable."""

ENGINE_LIVES = "SELECT EXISTS (SELECT FROM engines WHERE seen_at > now() - interval '10 s')"


class Health(msgspec.Struct):
    status: Literal["ok"] = "ok"


@get("/health/live", security=[])
async def live() -> Health:
    """Check whether this process runs"""
    return Health()


@get("/health/ready", security=[])
async def ready(service: Service) -> Health:
    """Check whether database and engine both work

    503 with the reason otherwise.
    """
    try:
        async with asyncio.timeout(PATIENCE), service.pool.acquire() as tx:
            engine_lives = await tx.fetchval(ENGINE_LIVES)
    except UNAVAILABLE as error:
        raise _not_ready("The database does not answer") from error
    if not engine_lives:
        raise _not_ready("No engine is running: start one with `tocsin engine` (or everything with `tocsin up`)")
    return Health()


def _not_ready(reason: str) -> Refused:
    return Refused(503, "unavailable", reason, headers={"Retry-After": "2"})


routes = [live, ready]
