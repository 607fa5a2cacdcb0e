"""One silence: its next spans, its form, ending and deleting it; and what a resource's page says of silences."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from litestar import Response, get, post

from tocsin.actions import silences as actions
from tocsin.domain import ids
from tocsin.domain.errors import Refused
from tocsin.domain.resources.base import kinds
from tocsin.domain.silences import next_spans
from tocsin.integrations import base
from tocsin.storage.channels import integrations
from tocsin.storage.notifying import scope
from tocsin.storage.notifying import silences as stored
from tocsin.storage.notifying.silences import HORIZON
from tocsin.storage.postgres.database import Tx, transaction
from tocsin.web import messages, silence_form
from tocsin.web.render import page
from tocsin.web.session import AnyRequest, Service, Viewer, fields, redirect
from tocsin.web.silence_form import REPEATS, SEVERITIES

MAX_OFFERED = 100
"""Resources, and integrations, that the form offers beside those that are chosen already."""
MAX_COMING = 5
SECOND = timedelta(seconds=1)


def link(silence_id: UUID) -> str:
    """The path of its page."""
    return f"/silences/{ids.public(ids.SILENCE, silence_id)}"


async def of_resource(tx: Tx, project_id: UUID, resource_id: UUID) -> dict[str, Any]:
    """What silences it now and will next, each silence once, for `silence_list` in `silence_parts.html`."""
    now = datetime.now(UTC)
    spans = await stored.spans_over(tx, project_id, resource_id, now, now + HORIZON)
    first = {span.silence_id: span for span in sorted(spans, key=lambda span: span.starts_at, reverse=True)}
    coming = sorted(first.values(), key=lambda span: span.starts_at)
    shown = [(span, link(span.silence_id), span.starts_at <= now) for span in coming]
    return {"spans": shown[:MAX_COMING], "more": max(0, len(shown) - MAX_COMING)}


async def choices(tx: Tx, service: Service, viewer: Viewer, values: Mapping[str, Any]) -> dict[str, Any]:
    """What the form offers to choose from; what is chosen comes first."""
    chosen = set(values["resources"])
    keys = [key for uuid in chosen for kind in kinds().values() if (key := ids.parse(kind.prefix, uuid))]
    named = await scope.named(tx, viewer.project_id, keys, len(keys) + 1)
    more = await scope.named(tx, viewer.project_id, None, MAX_OFFERED + 1)
    resources = [(kind.public(key), name, kind.label) for key, (kind, name) in (named | more).items()]
    known = [
        (ids.public(ids.INTEGRATION, each.id), base.display_name(each), base.of(each.type).label)
        for each in await integrations.list_(tx, service.vault, viewer.project_id)
    ]
    return {
        "resources": resources, "integrations": _first(known, values["integrations"]), "repeats": REPEATS,
        "severities": SEVERITIES, "left_out": len(more) > MAX_OFFERED or len(known) > MAX_OFFERED,
    }  # fmt: skip


def _first(known: list[tuple[str, str, str]], chosen: Collection[str]) -> list[tuple[str, str, str]]:
    """Those that are chosen, and as many others as are offered."""
    others = [each for each in known if each[0] not in chosen]
    return [each for each in known if each[0] in chosen] + others[:MAX_OFFERED]


@get("/silences/{uuid:str}", include_in_schema=False)
async def show(uuid: str, viewer: Viewer, service: Service) -> Response[str]:
    return await _page(uuid, viewer, service)


async def _page(
    uuid: str,
    viewer: Viewer,
    service: Service,
    typed: Mapping[str, Any] | None = None,
    errors: Mapping[str, str] | None = None,
) -> Response[str]:
    async with service.pool.acquire() as tx:
        found = await actions.existing(tx, viewer.actor, ids.key_of(ids.SILENCE, uuid))
        silence = found.silence
        named = await scope.named(tx, viewer.project_id, silence.resources or (), actions.MAX_NAMED)
        uuids = [kind.public(key) for key, (kind, _) in named.items()]
        values = typed if typed is not None else silence_form.values(silence, viewer.zone, uuids)
        offered = await choices(tx, service, viewer, values)
    return page(
        "silence.html", viewer, title=silence.name, status_code=422 if errors else 200, uuid=uuid, state=found.state,
        spans=next_spans(silence.rule, datetime.now(UTC)), repeating=silence_form.repeats_in_words(silence.rule),
        values=values, errors=errors or {}, named=[name for _, name in named.values()], silence=silence, **offered,
    )


@post("/silences/{uuid:str}", include_in_schema=False)
async def change(uuid: str, request: AnyRequest, viewer: Viewer, service: Service) -> Response[str]:
    form, key = await fields(request, viewer), ids.key_of(ids.SILENCE, uuid)
    try:
        given = silence_form.given(form)
        async with transaction(service.pool) as tx:
            await actions.change(tx, viewer.actor, key, given)
    except Refused as refused:
        return await _page(uuid, viewer, service, silence_form.typed(form), silence_form.errors(refused))
    return redirect(f"/silences/{uuid}", messages.SETTINGS_CHANGED)


@post("/silences/{uuid:str}/end", include_in_schema=False)
async def end(uuid: str, request: AnyRequest, viewer: Viewer, service: Service) -> Response[str]:
    await fields(request, viewer)
    async with transaction(service.pool) as tx:
        await actions.end(tx, viewer.actor, ids.key_of(ids.SILENCE, uuid))
    return redirect(f"/silences/{uuid}", messages.SILENCE_ENDED)


@post("/silences/{uuid:str}/delete", include_in_schema=False)
async def delete(uuid: str, request: AnyRequest, viewer: Viewer, service: Service) -> Response[str]:
    await fields(request, viewer)
    async with transaction(service.pool) as tx:
        found = await actions.delete(tx, viewer.actor, ids.key_of(ids.SILENCE, uuid))
    return redirect("/silences", f"{found.silence.name} deleted.")


routes = [show, change, end, delete]
