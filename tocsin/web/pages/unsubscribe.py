"""Unsubscribing from an email integration, by the link in each of its emails."""

from __future__ import annotations

from litestar import Response, get, post

from tocsin.actions import integrations
from tocsin.actions.base import system
from tocsin.storage.accounts import links
from tocsin.storage.postgres.database import transaction
from tocsin.web.render import broken, message
from tocsin.web.session import Service


@get("/unsubscribe", include_in_schema=False)
async def ask_unsubscribe(service: Service, token: str = "") -> Response[str]:
    """May be opened by a person or by a link scanner: changes nothing."""
    if links.read_unsubscribe(service.vault, token) is None:
        return broken()
    return message(
        "Stop these emails?",
        "This email integration will send no more notifications. Members of its project will see this and can undo it.",
        form="unsubscribe", token=token,
    )


@post("/unsubscribe", include_in_schema=False, status_code=200)
async def unsubscribe(service: Service, token: str = "") -> Response[str]:
    """Disables the integration: by the button, or by a mail client in one click (RFC 8058)."""
    integration_id = links.read_unsubscribe(service.vault, token)
    if integration_id is None:
        return broken()
    async with transaction(service.pool) as tx:
        await integrations.unsubscribe(tx, system(name="a recipient of its emails"), integration_id)
    return message("Done", "This email integration no longer sends anything.")


routes = [ask_unsubscribe, unsubscribe]
