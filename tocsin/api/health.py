"""Whether the service runs, for supervisors."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import msgspec
from litestar import Request, get
from msgspec import UNSET, UnsetType

from tocsin.api.schemas import millis
from tocsin.api.service import Service
from tocsin.domain import clients
from tocsin.domain.errors import Refused
from tocsin.storage.delivery import engines, inner_loop
from tocsin.storage.delivery.engines import ALIVE
from tocsin.storage.postgres import replication
from tocsin.storage.postgres.database import UNAVAILABLE
from tocsin.storage.postgres.primary import WAITS, Primary

PATIENCE = 1.8
"""Seconds after which a database that has not answered counts as unavailable."""

NOTICED = 3.0
"""Seconds by which a lost primary is noticed late, at most."""


class Standby(msgspec.Struct, kw_only=True):
    """One that follows the primary; `behind_seconds` as last measured. `name` is only said on the machine itself."""

    name: str | UnsetType = UNSET
    synchronous: bool
    behind_bytes: int | None
    behind_seconds: float


class Database(msgspec.Struct, kw_only=True):
    """Who follows it; and where it is, which is only said on the machine itself. `warnings` say what can be lost with
    the primary.
    """

    primary: str | UnsetType = UNSET
    synchronous: bool
    standbys: list[Standby]
    warnings: list[str]


class Engine(msgspec.Struct, kw_only=True):
    """One that lives, and since when. `machine` is only said on the machine itself."""

    number: int
    machine: str | UnsetType = UNSET
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
async def ready(request: Request[Any, Any, Any], service: Service) -> Health:
    """Check whether database and engine both work

    503 with the reason otherwise. Where the database and the engines are, and what its standbys are called, is only
    said to who asks on the machine itself, by a name of it such as localhost; to nobody if TOCSIN_PUBLIC_URL says that
    there are callers from elsewhere: then `tocsin doctor` says it.
    """
    names = clients.is_local(request.scope, service.settings.public_url)
    primary: Primary = service.pool.primary
    try:
        async with asyncio.timeout(PATIENCE), service.pool.acquire() as tx:
            living = await engines.living(tx, _alive_within(primary))
            loop = await inner_loop.state(tx)
            known = await replication.read(tx)
    except UNAVAILABLE as error:
        raise _not_ready(f"The database {_trouble(primary, names)}") from error
    if not living:
        raise _not_ready("No engine is running: start one with `tocsin engine` (or everything with `tocsin up`)")
    alive = [
        Engine(number=each.number, machine=each.machine if names else UNSET, since=millis(each.since))
        for each in living
    ]
    health = Health("ok", alive, database=_shown(primary, known, names))
    if loop.worked_at is not None and loop.took is not None:
        health.worked_at, health.took_ms = millis(loop.worked_at), round(loop.took * 1000, 1)
    return health


def _alive_within(primary: Primary) -> float:
    """Just after an outage of the database, nobody can have been heard of during it."""
    back = primary.back_for
    return ALIVE if back is None or back > ALIVE else ALIVE + NOTICED + primary.outage


def _trouble(primary: Primary, names: bool) -> str:
    said = primary.trouble if names else WAITS if primary.waits_for_standby else None
    return said or "does not answer"


def _shown(primary: Primary, known: replication.Replication, names: bool) -> Database | UnsetType:
    if len(primary.hosts) < 2 and not known.standbys:
        return UNSET
    standbys = [
        Standby(
            name=each.name if names else UNSET, synchronous=each.synchronous, behind_bytes=each.behind_bytes,
            behind_seconds=round(each.behind_seconds, 3),
        )
        for each in known.standbys
    ]  # fmt: skip
    return Database(
        primary=str(primary.host or "") if names else UNSET, synchronous=known.synchronous, standbys=standbys,
        warnings=known.warnings(len(primary.hosts), names=names),
    )  # fmt: skip


def _not_ready(reason: str) -> Refused:
    return Refused(503, "unavailable", reason, headers={"Retry-After": "2"})


routes = [live, ready]
