"""Integrations that nothing may be sent to at present, and why: SQL for one row of `integrations`, and the reasons."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tocsin.storage.notifying import unverified_owners
from tocsin.storage.postgres.database import folded

if TYPE_CHECKING:
    from asyncpg import Record

SMS_TYPE, TELEGRAM_TYPE = "Integrations::SmsIntegration", "Integrations::TelegramIntegration"

# The address of an account of the same project, in whatever case, gets nothing before it is verified.
UNVERIFIED = f"""EXISTS (
           SELECT FROM users u JOIN members m ON m.user_id = u.id
           WHERE m.project_id = i.project_id
             AND {folded("u.email")} = {folded("(i.settings->>'email')")}
             AND u.email_verified_at IS NULL
       )"""

STRANGE = unverified_owners.made_by_unverified("i.project_id")

COLUMNS = f"{UNVERIFIED} AS unverified, {STRANGE} AS strange"
"""Of `integrations i`."""

UNPAID = f"""(i.type = '{SMS_TYPE}'
           AND EXISTS (SELECT FROM projects p WHERE p.id = i.project_id AND p.plan <> 'paid'))"""

UNREADY = f"(i.type = '{TELEGRAM_TYPE}' AND NOT i.settings ? 'chat_id')"

WAITS_FOR_CHAT = "it waits for its chat: get a code for it, and send it to the bot"
PAID_PLAN_ONLY = "SMS integrations require a paid plan, and this project has none at present"


WHOLE = f"{COLUMNS}, {UNPAID} AS unpaid, {UNREADY} AS unready, i.settings->>'email' AS email"
"""Of `integrations i`: also what only its type refuses."""


def whole_reason(row: Record) -> str | None:
    """Why nothing may be sent, from a row with `WHOLE`; None if something may."""
    if row["unpaid"]:
        return PAID_PLAN_ONLY
    return WAITS_FOR_CHAT if row["unready"] else reason(row, row["email"])


def reason(row: Record, email: str | None) -> str | None:
    """Why nothing may be sent, from a row with `COLUMNS`; None if something may."""
    if row["unverified"]:
        return f"address not verified: {email} belongs to an account of this project that has yet to verify it"
    if row["strange"]:
        return "whoever made this project has not verified their mail address; until then nothing is sent"
    return None
