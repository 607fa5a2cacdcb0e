"""Telegram: a new code for an integration's chat; the integration's page shows it."""

from __future__ import annotations

from litestar import Response, post

from tocsin.actions import telegram as actions
from tocsin.domain import ids
from tocsin.storage.postgres.database import transaction
from tocsin.web.session import AnyRequest, Service, Viewer, fields, redirect


@post("/integrations/{uuid:str}/telegram_code", include_in_schema=False)
async def new_code(uuid: str, request: AnyRequest, viewer: Viewer, service: Service) -> Response[str]:
    await fields(request, viewer)
    async with transaction(service.pool) as tx:
        await actions.new_code(tx, viewer.actor, service.vault, ids.key_of(ids.INTEGRATION, uuid))
    return redirect(f"/integrations/{uuid}#chat")


routes = [new_code]
