"""What a server or monitor depends on, and what is behind it: on its page, and changed there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from litestar import Response, post
from litestar.handlers import HTTPRouteHandler

from tocsin.actions import dependencies as actions
from tocsin.domain import dependencies as domain
from tocsin.domain.dependencies import Written
from tocsin.domain.errors import Refused, not_found
from tocsin.domain.resources.base import Resource, kinds
from tocsin.storage.notifying import dependencies, depends_on
from tocsin.storage.notifying.depends_on import Named
from tocsin.storage.postgres.database import Tx, transaction
from tocsin.web import messages
from tocsin.web.session import AnyRequest, Service, Viewer, fields, redirect

MAX_OFFERED = 500
"""Resources that are offered as parents; others are added over the API."""
MAX_BEHIND = 12
"""Names of those behind one that its page shows."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the list: a resource, or several that explain only together. `value` is its public form."""

    value: str
    members: Sequence[Named]


@dataclass(frozen=True, slots=True)
class Family:
    """What a page shows of it. `more` of those behind it are not named."""

    entries: Sequence[Entry]
    offered: Sequence[Named]
    behind: Sequence[Named]
    more: int
    shortened: bool


async def family(tx: Tx, project_id: UUID, resource_id: UUID, written: Written) -> Family:
    """What this resource depends on, what it could depend on, and what is behind it."""
    children = [child for child, _ in (await dependencies.children_of(tx, [resource_id]))[resource_id]]
    known = await depends_on.named(tx, {*domain.parents(domain.read(written)), *children[:MAX_BEHIND]})
    uuids = {each.uuid: each for each in known.values()}
    entries = [
        Entry(" ".join(names), [uuids[name] for name in names if name in uuids])
        for names in ([each] if isinstance(each, str) else each for each in written)
    ]
    offered = await depends_on.candidates(tx, project_id, resource_id, limit=MAX_OFFERED)
    behind = [known[child] for child in children[:MAX_BEHIND] if child in known]
    return Family(entries, offered, behind, len(children) - len(behind), len(offered) == MAX_OFFERED)


def _route(kind: Resource) -> HTTPRouteHandler:
    @post(f"{kind.path}/{{uuid:str}}/depends_on", include_in_schema=False)
    async def change(uuid: str, request: AnyRequest, viewer: Viewer, service: Service) -> Response[str]:
        return await _change(uuid, kind, await fields(request, viewer), viewer, service)

    return change


async def _change(
    uuid: str, kind: Resource, form: Mapping[str, str], viewer: Viewer, service: Service
) -> Response[str]:
    """`add` (with `and`, where both must be down) or `remove` one entry."""
    key, page = kind.key_of(uuid), f"{kind.path}/{uuid}#depends-on"
    try:
        async with transaction(service.pool) as tx:
            before = await depends_on.of(tx, viewer.project_id, kind, key)
            if before is None:
                raise not_found(kind.noun)
            await actions.change(tx, viewer.actor, kind, key, _after(before, form))
    except Refused as refused:
        if refused.status != 422:
            raise
        async with service.pool.acquire() as tx:
            named = await depends_on.candidates(tx, viewer.project_id, UUID(int=0), limit=MAX_OFFERED)
        return redirect(page, messages.NOT_SAVED.format(why=_in_names(refused, named)), good=False)
    return redirect(page, messages.DEPENDENCIES_SAVED)


def _after(before: Written, form: Mapping[str, str]) -> Written:
    if remove := form.get("remove", ""):
        return [each for each in before if (each if isinstance(each, str) else " ".join(each)) != remove]
    together = [name for name in (form.get("add", ""), form.get("and", "")) if name]
    return [*before, together[0] if len(together) == 1 else together]


def _in_names(refused: Refused, named: Sequence[Named]) -> str:
    """Why it was refused, with names in place of identifiers."""
    text = refused.message.removeprefix(f"{domain.FIELD} ")
    for each in named:
        text = text.replace(each.uuid, each.name)
    return f"that {text}"


routes = [_route(kind) for kind in kinds().values()]
