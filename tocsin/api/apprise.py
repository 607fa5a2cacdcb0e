"""The services that an Apprise integration can notify through, and their fields."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from litestar import get
from litestar.params import Parameter

from tocsin.actions.base import Actor
from tocsin.api.schemas import Listed, Page
from tocsin.api.service import Service

MAX_SEARCH_LENGTH = 100

Search = Annotated[str, Parameter(max_length=MAX_SEARCH_LENGTH, description="Part of a name, in any case.")]


class AppriseServiceShown(msgspec.Struct):
    """`service` is its name in settings."""

    service: str
    label: str


class AppriseFieldShown(msgspec.Struct):
    """`values` are those of a `choice`; a `list` is a list of strings, or one with commas."""

    name: str
    label: str
    type: Literal["string", "number", "boolean", "choice", "list"]
    required: bool
    secret: bool
    values: list[str]


class AppriseServiceDescribed(msgspec.Struct):
    """`help_url` explains how to get the values."""

    service: str
    label: str
    fields: list[AppriseFieldShown]
    help_url: str


@get("/api/v1/integrations/apprise/services")
async def list_(
    caller: Actor, service: Service, asked: Page, search: Search = ""
) -> Listed[AppriseServiceShown]:
    """List Apprise's services

    In alphabetical order. 503 `apprise_unavailable` if Apprise cannot be asked at present.
    """
    found = await service.apprise_catalog.services(search)
    page = found[asked.offset : asked.offset + asked.per_page]
    return Listed([AppriseServiceShown(each.service, each.label) for each in page], asked.meta(len(found)))


@get("/api/v1/integrations/apprise/services/{name:str}")
async def read(caller: Actor, service: Service, name: str) -> AppriseServiceDescribed:
    """Read the fields of one of Apprise's services

    Which of them go together is said by the service's own page; creation checks it.
    """
    found = await service.apprise_catalog.describe(name)
    fields = [
        AppriseFieldShown(each.name, each.label, each.type, each.required, each.secret, list(each.values))
        for each in found.fields
    ]
    return AppriseServiceDescribed(found.service, found.label, fields, found.help_url)


routes = [list_, read]
