"""What each project uses, for the operator."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated
from uuid import UUID

import msgspec
from litestar import get
from litestar.params import QueryParameter

from tocsin.actions.base import INSTALLATION, OPERATOR, Actor, require
from tocsin.api.schemas import Meta, Page, seconds
from tocsin.api.service import Service
from tocsin.domain import ids
from tocsin.domain.errors import invalid_field
from tocsin.storage.accounts import accounts, usage
from tocsin.storage.accounts.usage import Usage

USUAL, LONGEST = timedelta(days=1), timedelta(days=31)
EARLIEST, LATEST = datetime(1971, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)


class ProjectUsage(msgspec.Struct):
    """One project: what it has now; and the incidents that opened, and deliveries that were created, within the time.

    `delivered` and `dead` are deliveries by the type of their integration; SMS, say, are what costs money.
    """

    project_uuid: str
    project_name: str
    plan: str
    members: int
    servers: int
    network_monitors: int
    heartbeats: int
    sources: int
    integrations: int
    ongoing_incidents: int
    incidents: int
    delivered: dict[str, int]
    dead: dict[str, int]


class UsageMeta(Meta, rename={"from_": "from"}):
    """Which page this is, and the time that is counted."""

    from_: str
    to: str


class UsageListed(msgspec.Struct):
    """A page of projects, oldest first."""

    data: list[ProjectUsage]
    meta: UsageMeta


@get("/api/v1/usage", summary="What each project uses")
async def read(
    user_id: UUID, service: Service, asked: Page,
    start: Annotated[datetime | None, QueryParameter(name="from", description="Default: a day before `to`.")] = None,
    to: Annotated[datetime | None, QueryParameter(description="Default: now. At most 31 days after `from`.")] = None,
) -> UsageListed:
    """For the operator of the installation, with the token of their user: 403 for others."""
    end = datetime.now(UTC) if to is None else _moment("to", to)
    begin = end - USUAL if start is None else _moment("from", start)
    if begin >= end:
        raise invalid_field("from", "must be a time before to")
    if end - begin > LONGEST:
        raise invalid_field("from", "must be at most 31 days before to")
    async with service.pool.acquire() as tx:
        user = await accounts.user_by_id(tx, user_id)
        require(Actor(INSTALLATION, "operator" if user and user.operator else "person", user_id), OPERATOR)
        found, total = await usage.of_projects(tx, begin, end, limit=asked.per_page, offset=asked.offset)
    meta = UsageMeta(**msgspec.structs.asdict(asked.meta(total)), from_=seconds(begin), to=seconds(end))
    return UsageListed([_shown(each) for each in found], meta)


def _moment(name: str, given: datetime) -> datetime:
    """A time without a zone is in UTC."""
    at = given.replace(tzinfo=UTC) if given.tzinfo is None else given
    if not EARLIEST <= at <= LATEST:
        raise invalid_field(name, "must be a time such as 2025-05-01T00:00:00Z")
    return at.astimezone(UTC)


def _shown(each: Usage) -> ProjectUsage:
    has = dict(each.has)
    return ProjectUsage(
        project_uuid=ids.public(ids.PROJECT, each.id), project_name=each.name, plan=each.plan,
        ongoing_incidents=has.pop("ongoing"), incidents=each.incidents, delivered=dict(each.delivered),
        dead=dict(each.dead), **has,
    )  # fmt: skip


routes = [read]
