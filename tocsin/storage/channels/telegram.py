"""Telegram: the bots that are read, the codes by which chats are found, and which chat belongs to which integration.

What is written to a bot is read by one engine at a time, which leases it for one request. Each update is acted upon in
the transaction that counts it as done, so that it counts once, whatever dies when.
"""

from __future__ import annotations

from base64 import b32encode
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from tocsin.storage.channels import integrations
from tocsin.storage.channels.integrations import Integration
from tocsin.storage.channels.posted import Message
from tocsin.storage.postgres.database import Tx, key
from tocsin.storage.postgres.secrets import Vault

TELEGRAM = "Integrations::TelegramIntegration"

CODE_MINUTES = 10
CODE_LENGTH = 20
"""Characters of 5 bits each."""
CODE_TRIES = 100
"""Wrong codes that may be sent to a bot before those that it waits for are void."""
LEASE_SECONDS = 30
DEAD_AFTER = 3
"""Seconds after its last sign of life in which an engine counts as dead. One that is later than now is none."""
TOKENS = 5
"""Integrations of one bot whose tokens are tried: one of them may have been revoked."""

# A new bot is read from now on; one that nobody has any more is forgotten.
SEE = f"""
WITH known AS (
    SELECT DISTINCT settings->>'bot_id' AS bot_id FROM integrations WHERE type = '{TELEGRAM}'
), gone AS (
    DELETE FROM telegram_bots b WHERE NOT EXISTS (SELECT FROM known WHERE known.bot_id = b.bot_id) AND due_at < now()
)
INSERT INTO telegram_bots (bot_id) SELECT bot_id FROM known WHERE bot_id IS NOT NULL ON CONFLICT DO NOTHING
"""

CLAIM = f"""
UPDATE telegram_bots SET engine = $1, due_at = now() + interval '{LEASE_SECONDS} s'
WHERE bot_id IN (
    SELECT bot_id FROM telegram_bots b
    WHERE bot_id <> ALL($2::text[])
      AND (due_at <= now() OR engine IS NOT NULL AND NOT EXISTS (
          SELECT FROM engines e WHERE e.number = b.engine
            AND e.seen_at BETWEEN now() - interval '{DEAD_AFTER} s' AND now() + interval '{DEAD_AFTER} s'))
    ORDER BY due_at LIMIT $3 FOR UPDATE SKIP LOCKED)
RETURNING bot_id, next_update
"""

OF_BOT = f"""
SELECT {integrations.COLUMNS} FROM integrations i
WHERE type = '{TELEGRAM}' AND settings->>'bot_id' = $1
ORDER BY disabled_at IS NOT NULL, updated_at DESC LIMIT {TOKENS}
"""

ADVANCE = "UPDATE telegram_bots SET next_update = $3 WHERE bot_id = $1 AND engine = $2 RETURNING true"

RELEASE = """
UPDATE telegram_bots SET engine = NULL, due_at = now() + make_interval(secs => $3), problem = $4
WHERE bot_id = $1 AND engine = $2
"""

RETURN = "UPDATE telegram_bots SET engine = NULL, due_at = now() WHERE engine = $1"

PROBLEM = "SELECT problem FROM telegram_bots WHERE bot_id = $1"

SET_CODE = f"""
WITH old AS (
    DELETE FROM telegram_codes WHERE integration_id IN (
        SELECT integration_id FROM telegram_codes WHERE expires_at < now() AND integration_id <> $1
        LIMIT 100 FOR UPDATE SKIP LOCKED)
)
INSERT INTO telegram_codes (integration_id, bot_id, hash, tries_left, made_at, expires_at)
VALUES ($1, $2, $3, {CODE_TRIES}, now(), now() + interval '{CODE_MINUTES} min')
ON CONFLICT (integration_id) DO UPDATE SET bot_id = excluded.bot_id, hash = excluded.hash,
    tries_left = excluded.tries_left, made_at = excluded.made_at, expires_at = excluded.expires_at
RETURNING expires_at
"""

CODE = """
SELECT hash, made_at, expires_at FROM telegram_codes WHERE integration_id = $1 AND tries_left > 0 AND expires_at > now()
"""

REDEEM = """
DELETE FROM telegram_codes WHERE bot_id = $1 AND hash = ANY($2::bytea[]) AND tries_left > 0 AND expires_at > now()
RETURNING integration_id
"""

WRONG = "UPDATE telegram_codes SET tries_left = tries_left - 1 WHERE bot_id = $1 AND tries_left > 0"

FORGET_CODE = "DELETE FROM telegram_codes WHERE integration_id = $1"

CHANGING = f"SELECT {integrations.COLUMNS} FROM integrations i WHERE id = $1 AND type = '{TELEGRAM}' FOR UPDATE"

# If a project notifies that chat by more than one integration, the one that posted the message.
OF_CHAT = f"""
SELECT n.id, n.project_id FROM incidents i JOIN integrations n ON n.project_id = i.project_id
WHERE i.id = $1 AND n.type = '{TELEGRAM}' AND n.settings->>'bot_id' = $2 AND n.settings->>'chat_id' = $3
ORDER BY EXISTS (SELECT FROM posted_messages m
                 WHERE m.integration_id = n.id AND m.incident_id = i.id AND m.place = $3 AND m.name = $4) DESC, n.id
LIMIT 1
"""

MOVED = f"""
UPDATE integrations SET settings = jsonb_set(settings, '{{chat_id}}', to_jsonb($3::bigint)), version = version + 1
WHERE id = $1 AND type = '{TELEGRAM}' AND settings->>'chat_id' = $2::bigint::text
"""


@dataclass(frozen=True, slots=True)
class Code:
    """A code by which a chat is found, and until when."""

    text: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Bot:
    """A bot that this engine may read now: by one of `tokens`, from the update `next_update` on."""

    bot_id: str
    next_update: int
    tokens: Sequence[str] = field(repr=False)


async def claim(tx: Tx, vault: Vault, engine: int, limit: int, *, but: Collection[str]) -> list[Bot]:
    """Bots that are due, those that waited longest first, leased for half a minute."""
    await tx.execute(SEE)
    bots = []
    for row in await tx.fetch(CLAIM, engine, list(but), limit):
        found = [integrations.of_row(vault, each) for each in await tx.fetch(OF_BOT, row["bot_id"])]
        tokens = dict.fromkeys(each.settings["bot_token"] for each in found if "bot_token" in each.settings)
        bots.append(Bot(row["bot_id"], row["next_update"], list(tokens)))
    return bots


async def advance(tx: Tx, engine: int, bot_id: str, next_update: int) -> bool:
    """Count what comes before `next_update` as done, if the bot is still leased; it is, until the transaction ends."""
    return bool(await tx.fetchval(ADVANCE, bot_id, engine, next_update))


async def release(tx: Tx, engine: int, bot_id: str, pause: float, problem: str | None) -> None:
    """Have it read again in `pause` seconds. `problem` is why it could not be read."""
    await tx.execute(RELEASE, bot_id, engine, pause, problem)


async def return_all(tx: Tx, engine: int) -> None:
    """Release whatever is leased by this engine."""
    await tx.execute(RETURN, engine)


async def problem(tx: Tx, bot_id: str) -> str | None:
    """Why that bot cannot be read, if it cannot."""
    found: str | None = await tx.fetchval(PROBLEM, bot_id)
    return found


async def new_code(tx: Tx, vault: Vault, integration: Integration) -> Code:
    """A new code for the integration, in the place of earlier ones: valid once, and for ten minutes."""
    now = await tx.fetchval("SELECT now()")
    [text, *_] = _codes(vault, integration.id, now)
    expires_at = await tx.fetchval(SET_CODE, integration.id, integration.settings["bot_id"], vault.token_hash(text))
    return Code(text, expires_at)


async def code(tx: Tx, vault: Vault, integration_id: UUID) -> Code | None:
    """The integration's code, while it is valid."""
    row = await tx.fetchrow(CODE, integration_id)
    if row is None:
        return None
    for text in _codes(vault, integration_id, row["made_at"]):
        if row["hash"] in vault.token_hashes(text):
            return Code(text, row["expires_at"])
    return None


async def redeem(tx: Tx, vault: Vault, bot_id: str, text: str) -> Integration | None:
    """The integration whose code this is, locked until the transaction ends. A code is used up; a wrong one counts."""
    found = await tx.fetchval(REDEEM, bot_id, vault.token_hashes(text.upper()))
    if found is None:
        await tx.execute(WRONG, bot_id)
        return None
    row = await tx.fetchrow(CHANGING, found)
    return row and integrations.of_row(vault, row)


async def forget_code(tx: Tx, integration_id: UUID) -> None:
    """Void the integration's code."""
    await tx.execute(FORGET_CODE, integration_id)


async def of_chat(tx: Tx, incident_id: UUID, bot_id: str, message: Message) -> tuple[UUID, UUID] | None:
    """The integration by which that chat is notified of an incident, and its project; None if there is none."""
    row = await tx.fetchrow(OF_CHAT, incident_id, bot_id, message.place, message.name)
    return (key(row["id"]), key(row["project_id"])) if row else None


async def move(tx: Tx, integration_id: UUID, old: int, new: int) -> None:
    """The chat has another id from now on."""
    await tx.execute(MOVED, integration_id, old, new)


def _codes(vault: Vault, integration_id: UUID, made_at: datetime) -> list[str]:
    """The code of that moment, by each key, newest first: derived, so that it can be shown but is stored nowhere."""
    digests = vault.token_hashes(f"telegram code {integration_id} {made_at.isoformat()}")
    return [b32encode(digest).decode()[:CODE_LENGTH] for digest in digests]
