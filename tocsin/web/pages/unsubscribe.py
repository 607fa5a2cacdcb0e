"""The end of a mail subscription, by the link that each mail to people carries."""

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
    """Opened by a person, or by a program that looks at links: changes nothing."""
    if links.read_unsubscribe(service.vault, token) is None:
        return broken()
    return message(
        "Stop these mails?",
        "No more alerts will be sent by this mail integration. The people of its project see that, and can undo it.",
        form="unsubscribe", token=token,
    )


@post("/unsubscribe", include_in_schema=False, status_code=200)
async def unsubscribe(service: Service, token: str = "") -> Response[str]:
    """By the button, or by a mail program in one click (RFC 8058): the integration is disabled."""
    integration_id = links.read_unsubscribe(service.vault, token)
    if integration_id is None:
        return broken()
    async with transaction(service.pool) as tx:
        await integrations.unsubscribe(tx, system(name="a reader of its mails"), integration_id)
    return message("Done", "This mail integration sends nothing any more.")


routes = [ask_unsubscribe, unsubscribe]
