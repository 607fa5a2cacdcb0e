"""A user's projects, and which of them the user's token acts on."""

from __future__ import annotations

from uuid import UUID

import msgspec
from litestar import get, post

from tocsin.actions import projects as actions
from tocsin.actions.base import person
from tocsin.api.schemas import seconds
from tocsin.api.service import Service
from tocsin.domain import ids
from tocsin.storage.accounts import accounts
from tocsin.storage.accounts.accounts import OwnProject
from tocsin.storage.postgres.database import transaction


class ProjectShape(msgspec.Struct):
    """`api_token` is null for readers of the project: the token may do everything."""

    uuid: str
    name: str
    plan: str
    api_token: str | None
    is_current: bool
    created_at: str
    updated_at: str


@get("/api/v1/projects", summary="List projects")
async def list_(user_id: UUID, service: Service) -> list[ProjectShape]:
    """The projects of the token's user, in the order of joining."""
    async with service.pool.acquire() as tx:
        found = await accounts.projects_of(tx, service.vault, user_id)
    return [_shape(project) for project in found]


@post("/api/v1/projects/{uuid:str}/switch", summary="Switch to a project", status_code=200)
async def switch(uuid: str, user_id: UUID, service: Service) -> ProjectShape:
    """From now on the user's tokens act on this project."""
    project_id = ids.parse(ids.PROJECT, uuid)
    async with transaction(service.pool) as tx:
        await actions.switch(tx, person(user_id), project_id)
        found = await accounts.projects_of(tx, service.vault, user_id)
    return next(_shape(project) for project in found if project.id == project_id)


def _shape(project: OwnProject) -> ProjectShape:
    return ProjectShape(
        uuid=ids.public(ids.PROJECT, project.id),
        name=project.name,
        plan=project.plan,
        api_token=project.api_token,
        is_current=project.is_current,
        created_at=seconds(project.created_at),
        updated_at=seconds(project.updated_at),
    )


routes = [list_, switch]
