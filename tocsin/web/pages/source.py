"""One source: what to paste where, what it sent last, its settings tried on a body, who is notified, deleting it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import msgspec
from litestar import Response, get, post

from tocsin.actions import sources as actions
from tocsin.domain.alerts import Alert
from tocsin.domain.errors import Refused, not_found
from tocsin.domain.resources.source import RESOURCE as SOURCE
from tocsin.domain.sources.base import MASK, Left, Note, Snippet, Unreadable, Wrong, types
from tocsin.storage.monitoring import resources, source_bodies, sources
from tocsin.storage.monitoring.source_bodies import Body
from tocsin.storage.monitoring.sources import Source, SourceConfig
from tocsin.storage.postgres.database import transaction
from tocsin.web import attachment_form, messages, source_form
from tocsin.web.pages import attachments, dependencies, silence
from tocsin.web.pages.sources import state
from tocsin.web.ranges import MAX_INCIDENTS
from tocsin.web.render import page
from tocsin.web.session import AnyRequest, Form, Service, Viewer, fields, redirect

PAST = timedelta(days=30)
MAX_BODIES, MAX_SHOWN = 12, 2_000
"""Bodies that the page shows, and characters of each."""
MAX_TRIED, MAX_FOUND = 64 * 1024, 20
"""Characters of a body that is tried, and alerts of it that are shown."""


@get("/sources/{uuid:str}", include_in_schema=False)
async def show(uuid: str, request: AnyRequest, viewer: Viewer, service: Service) -> Response[str]:
    return await _page(uuid, request, viewer, service)


async def _page(
    uuid: str, request: AnyRequest, viewer: Viewer, service: Service, typed: Form | None = None,
    errors: Mapping[str, str] | None = None, **more: Any,
) -> Response[str]:  # fmt: skip
    since = datetime.now(UTC) - PAST
    async with service.pool.acquire() as tx:
        found = await sources.one(tx, service.vault, viewer.project_id, SOURCE.key_of(uuid))
        if found is None:
            raise not_found("source")
        past = await resources.incidents_of(tx, viewer.project_id, found.id, since=since)
        bodies = await source_bodies.latest(tx, found.id, characters=MAX_SHOWN + 1)
        plan = await attachments.plan(tx, service, viewer, SOURCE, found.id, request)
        silences = await silence.of_resource(tx, viewer.project_id, found.id)
        family = await dependencies.family(tx, viewer.project_id, found.id, found.depends_on)
    kind = types()[found.wanted.type]
    return page(
        "source.html", viewer, title=found.wanted.name, status_code=422 if errors else 200, uuid=uuid, source=found,
        kind=kind, current_status=state(found), snippets=_snippets(service, viewer, found), bodies=_shown(bodies),
        most=MAX_SHOWN, incidents=past[:MAX_INCIDENTS], plan=plan, plan_form=attachment_form, silences=silences,
        family=family, values={**source_form.values(found.wanted), **(typed or {})}, errors=errors or {}, **more,
    )  # fmt: skip


def _shown(bodies: list[Body]) -> list[Body]:
    """The newest, but at least some of those that were not understood."""
    wrong = [each for each in bodies if each.kind == "refused"][: MAX_BODIES // 2]
    others = [each for each in bodies if each not in wrong][: MAX_BODIES - len(wrong)]
    return sorted([*wrong, *others], key=lambda each: each.id, reverse=True)


def _snippets(service: Service, viewer: Viewer, source: Source) -> list[Snippet]:
    """With what is needed of this source in them; readers do not see its key."""
    key = source.key if viewer.writes else MASK
    base = urlsplit(service.public_url)
    values = {
        "url": f"{service.public_url}/in/{key}", "key": key, "path": f"{base.path.rstrip('/')}/in/{key}",
        "host": base.netloc, "scheme": base.scheme, "base": service.public_url,
    }  # fmt: skip
    kind = types()[source.wanted.type]
    return [Snippet(each.title, each.about, each.text.format(**values).rstrip()) for each in kind.snippets]


@post("/sources/{uuid:str}", include_in_schema=False)
async def change(uuid: str, request: AnyRequest, viewer: Viewer, service: Service) -> Response[str]:
    form, key = await fields(request, viewer), SOURCE.key_of(uuid)
    try:
        given = source_form.given(form, (await _existing(service, viewer, uuid)).wanted)
        async with transaction(service.pool) as tx:
            await actions.change(tx, viewer.actor, service.vault, key, given)
    except Refused as refused:
        return await _page(uuid, request, viewer, service, typed=form, errors=source_form.errors(refused))
    return redirect(SOURCE.page(key), messages.SETTINGS_CHANGED)


@post("/sources/{uuid:str}/try", include_in_schema=False, request_max_body_size=4 * MAX_TRIED)
async def try_out(uuid: str, request: AnyRequest, viewer: Viewer, service: Service) -> Response[str]:
    """What would be read from a body that is pasted, with the settings as they are typed. Nothing is stored."""
    form = await fields(request, viewer)
    before = (await _existing(service, viewer, uuid)).wanted
    try:
        wanted = actions.wanted(source_form.given({**source_form.values(before), **form}, before), before)
    except Refused as refused:
        return await _page(uuid, request, viewer, service, typed=form, errors=source_form.errors(refused))
    return await _page(uuid, request, viewer, service, typed=form, tried=_tried(wanted, form.get("body", "")))


def _tried(wanted: SourceConfig, text: str) -> dict[str, Any]:
    found: list[Alert] = []
    said: list[str] = []
    try:
        if len(text) > MAX_TRIED:
            raise Unreadable(f"it is longer than {MAX_TRIED:,} characters")
        body = msgspec.json.decode(text)
        for each in types()[wanted.type].read(body, wanted.settings, datetime.now(UTC)):
            match each:
                case Alert():
                    found.append(each)
                case Wrong(reason):
                    said.append(reason)
                case Left(alerts):
                    said.append(f"{alerts} alerts were left out by its sender")
                case Note(note):
                    said.append(f"It is a note, not an alert: {note}")
            if len(found) + len(said) >= MAX_FOUND:
                break
    except Unreadable as error:
        said.append(f"It would be refused: {error}")
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        said.append("It would be refused: it is not valid JSON")
    return {"alerts": found, "said": said}


@post("/sources/{uuid:str}/rotate", include_in_schema=False)
async def rotate(uuid: str, request: AnyRequest, viewer: Viewer, service: Service) -> Response[str]:
    await fields(request, viewer)
    async with transaction(service.pool) as tx:
        await actions.rotate(tx, viewer.actor, service.vault, SOURCE.key_of(uuid))
    return redirect(f"/sources/{uuid}", messages.SOURCE_MOVED)


@post("/sources/{uuid:str}/delete", include_in_schema=False)
async def delete(uuid: str, request: AnyRequest, viewer: Viewer, service: Service) -> Response[str]:
    await fields(request, viewer)
    async with transaction(service.pool) as tx:
        found = await actions.delete(tx, viewer.actor, service.vault, SOURCE.key_of(uuid))
    return redirect("/sources", f"{found.wanted.name} deleted.")


async def _existing(service: Service, viewer: Viewer, uuid: str) -> Source:
    async with service.pool.acquire() as tx:
        found = await sources.one(tx, service.vault, viewer.project_id, SOURCE.key_of(uuid))
    if found is None:
        raise not_found("source")
    return found


routes = [show, change, try_out, rotate, delete]
