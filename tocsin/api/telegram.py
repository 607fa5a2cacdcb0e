"""Telegram: the code by which an integration finds its chat."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import post

from tocsin.actions import telegram as actions
from tocsin.actions.base import Actor
from tocsin.api.schemas import seconds
from tocsin.api.service import Service
from tocsin.domain import ids
from tocsin.integrations.telegram import start_links
from tocsin.storage.channels import telegram as stored
from tocsin.storage.postgres.database import transaction


class TelegramCode(msgspec.Struct):
    """`text` is what to write in the chat, `url` and `group_url` do so; `problem` is why it would not be read now."""

    code: str
    text: str
    url: str
    group_url: str
    expires_at: str | None
    problem: str | None


@post("/api/v1/integrations/{uuid:str}/telegram_code", status_code=200)
async def telegram_code(uuid: str, caller: Actor, service: Service) -> TelegramCode:
    """Make a code that finds a Telegram integration's chat

    The chat in which `text` is written within 10 minutes is notified from then on. Earlier codes are void.
    """
    async with transaction(service.pool) as tx:
        found, code = await actions.new_code(tx, caller, service.vault, ids.key_of(ids.INTEGRATION, uuid))
        problem = await stored.problem(tx, found.settings["bot_id"])
    url, group_url = start_links(found.settings, code.text)
    return TelegramCode(code.text, f"/start {code.text}", url, group_url, seconds(code.expires_at), problem)


routes: list[Any] = [telegram_code]
