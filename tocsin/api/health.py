"""Whether the service runs, for supervisors."""

from __future__ import annotations

import asyncio
from typing import Literal

import msgspec
from litestar import get
from msgspec import UNSET, UnsetType

from tocsin.api.schemas import millis
from tocsin.api.service import Service
from tocsin.domain.errors import Refused
from tocsin.storage.delivery import engines, inner_loop
from tocsin.storage.delivery.engines import ALIVE
from tocsin.storage.postgres import replication
from tocsin.storage.postgres.database import UNAVAILABLE
from tocsin.storage.postgres.primary import Primary

PATIENCE = 1.8
"""Seconds after which a database that has not answered counts as unavailable."""

NOTICED = 3.0
"""Seconds by which a lost primary is noticed late, at most."""


class Standby(msgspec.Struct):
    """One that follows the primary; `behind_seconds` as last measured."""

    name: str
    synchronous: bool
    behind_bytes: int | None
    behind_seconds: float


class Database(msgspec.Struct):
    """Where it is, and who follows it. `warnings` say what can be lost with the primary."""

    primary: str
    synchronous: bool
    standbys: list[Standby]
    warnings: list[str]


class Engine(msgspec.Struct):
    """One that lives, on which machine, and since when."""

    number: int
    machine: str
    since: str


class Health(msgspec.Struct, omit_defaults=True):
    """`engines` are those that live. `worked_at` is when an incident of the service's own was last opened, delivered
    and resolved, from end to end; `took_ms` how long that took. Left out until there was one, within the first minute.
    `database` is what is known of one with several hosts, or with standbys.
    """

    status: Literal["ok"]
    engines: list[Engine] = []
    worked_at: str | None = None
    took_ms: float | None = None
    database: Database | UnsetType = UNSET


@get("/health/live", security=[])
async def live() -> Health:
    """Check whether this process runs"""
    return Health("ok")


@get("/health/ready", security=[])
async def ready(service: Service) -> Health:
    """Check whether database and engine both work

    503 with the reason otherwise.
    """
    primary: Primary = service.pool.primary
    try:
        async with asyncio.timeout(PATIENCE), service.pool.acquire() as tx:
            living = await engines.living(tx, _alive_within(primary))
            loop = await inner_loop.state(tx)
            known = await replication.read(tx)
    except UNAVAILABLE as error:
        raise _not_ready(f"The database {primary.trouble or 'does not answer'}") from error
    if not living:
        raise _not_ready("No engine is running: start one with `tocsin engine` (or everything with `tocsin up`)")
    shown = [Engine(each.number, each.machine, millis(each.since)) for each in living]
    health = Health("ok", shown, database=_shown(primary, known))
    if loop.worked_at is not None and loop.took is not None:
        health.worked_at, health.took_ms = millis(loop.worked_at), round(loop.took * 1000, 1)
    return health


def _alive_within(primary: Primary) -> float:
    """Just after an outage of the database, nobody can have been heard of during it."""
    back = primary.back_for
    return ALIVE if back is None or back > ALIVE else ALIVE + NOTICED + primary.outage


def _shown(primary: Primary, known: replication.Replication) -> Database | UnsetType:
    if len(primary.hosts) < 2 and not known.standbys:
        return UNSET
    standbys = [
        Standby(each.name, each.synchronous, each.behind_bytes, round(each.behind_seconds, 3))
        for each in known.standbys
    ]
    return Database(str(primary.host or ""), known.synchronous, standbys, known.warnings(len(primary.hosts)))


def _not_ready(reason: str) -> Refused:
    return Refused(503, "unavailable", reason, headers={"Retry-After": "2"})


routes = [live, ready]
