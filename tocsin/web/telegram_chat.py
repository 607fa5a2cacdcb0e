"""What the page of a Telegram integration shows of its chat, and of the code by which it is found."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from tocsin.integrations.telegram import start_links
from tocsin.storage.channels import telegram
from tocsin.storage.channels.integrations import Integration
from tocsin.storage.postgres.database import Tx
from tocsin.storage.postgres.secrets import Vault


@dataclass(frozen=True, slots=True)
class TelegramChat:
    """`name` is None while no chat is known. `code`, if there is one, is good until `expires_at`, and each link sends
    it. `problem` is why what is written to the bot cannot be read.
    """

    bot: str
    name: str | None
    problem: str | None
    code: str | None = None
    url: str = ""
    group_url: str = ""
    expires_at: datetime | None = None


async def of(tx: Tx, vault: Vault, integration: Integration, *, writes: bool) -> TelegramChat | None:
    """None for other types; the code is shown only to those who may change the project."""
    if integration.type != telegram.TELEGRAM:
        return None
    settings = integration.settings
    name = settings.get("chat_name") or (str(settings["chat_id"]) if settings.get("chat_id") else None)
    bot, problem = settings.get("bot_username", ""), await telegram.problem(tx, settings["bot_id"])
    code = await telegram.code(tx, vault, integration.id) if writes else None
    if code is None:
        return TelegramChat(bot, name, problem)
    return TelegramChat(bot, name, problem, code.text, *start_links(settings, code.text), code.expires_at)
