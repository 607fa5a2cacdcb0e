"""Key rotation: re-encrypts all secrets with the newest key while the service runs.

A row is replaced only if its envelope is still the one that was read: a concurrent change wins, and has
sealed it with the newest key already. So no locks are held, and an interrupted run is simply run again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from tocsin.domain import heartbeats, inner_loop
from tocsin.domain.settings import Unusable
from tocsin.domain.sources import base as sources
from tocsin.storage.accounts.accounts import TOKEN_FIELD
from tocsin.storage.channels.integrations import SEALED_FIELD
from tocsin.storage.postgres.database import key
from tocsin.storage.postgres.secrets import HEADER_BYTES, Unopenable, Vault

BATCH = 200


@dataclass(frozen=True, slots=True)
class Sealed:
    """A column of envelopes: which project each belongs to, under which field it was sealed, and the column with the
    keyed hash of the same secret, where there is one.
    """

    table: str
    column: str
    project: str
    field: str
    hashed: str | None = None


SEALED = (
    Sealed("projects", "token_sealed", "id", TOKEN_FIELD, hashed="token_hash"),
    Sealed("integrations", "sealed", "project_id", SEALED_FIELD),
    Sealed("network_monitors", "sealed", "project_id", "options"),
    Sealed("heartbeats", "key_sealed", "project_id", heartbeats.KEY_FIELD, hashed="key_hash"),
    Sealed("ping_keys", "key_sealed", "id", heartbeats.KEY_FIELD, hashed="key_hash"),
    Sealed("sources", "key_sealed", "project_id", sources.KEY_FIELD, hashed="key_hash"),
    Sealed("sources", "signing_sealed", "project_id", sources.SIGNING_FIELD),
)
"""Every sealed column that there is (a test compares this with the database)."""

STALE = """
SELECT id, {project} AS project_id, {column} AS envelope FROM {table}
WHERE id > $1 AND {column} IS NOT NULL AND substring({column} FROM 1 FOR octet_length($2::bytea)) <> $2::bytea
ORDER BY id LIMIT $3
"""

ALL_OF = """
SELECT id, {project} AS project_id, {column} AS envelope FROM {table}
WHERE id > $1 AND {column} IS NOT NULL ORDER BY id LIMIT $2
"""
THERE = """
SELECT EXISTS (SELECT FROM information_schema.columns
               WHERE table_schema = 'public' AND table_name = $1 AND column_name = $2)
"""

REPLACE = "UPDATE {table} SET {column} = $3{hashed} WHERE id = $1 AND {column} = $2"

# Each process of the service has the key that it seals with in its session's name.
BEHIND = """
SELECT application_name, count(*) FROM pg_stat_activity
WHERE datname = current_database() AND application_name ~ '^tocsin (api|engine), key '
  AND application_name NOT LIKE '%, key ' || $1
GROUP BY 1 ORDER BY 1
"""

# The inner loop's was sealed by whichever engine came first.
BY_KEY = f"""
SELECT DISTINCT ON (sealed_by) id, token_sealed, substring(token_sealed FROM 1 FOR {HEADER_BYTES}) AS sealed_by
FROM projects WHERE id <> '{inner_loop.PROJECT}' ORDER BY sealed_by, id
"""

LATEST_SIGN_IN = "SELECT max(expires_at) FROM user_tokens"

FIRST = UUID(int=0)


@dataclass(frozen=True, slots=True)
class Rotated:
    """How many envelopes were re-encrypted, and which could not be opened and why (by table and public key)."""

    renewed: int
    failed: Mapping[str, str]


async def rotate(connection: asyncpg.Connection, vault: Vault) -> Rotated:
    """Re-encrypt with the newest key what an older one sealed, row by row. Tokens and keys are then looked up by the
    newest key's hash. What cannot be opened stays as it is.
    """
    renewed, failed = 0, {}
    for place in SEALED:
        after = FIRST
        while rows := await connection.fetch(_filled(STALE, place), after, vault.header, BATCH):
            for row in rows:
                after = key(row["id"])
                try:
                    plain = vault.open(key(row["project_id"]), after, place.field, row["envelope"])
                except Unopenable as error:
                    failed[f"{place.table} {after}"] = str(error)
                    continue
                envelope = vault.seal(key(row["project_id"]), after, place.field, plain)
                hashes = [vault.token_hash(plain.decode())] if place.hashed else []
                done = await connection.execute(_filled(REPLACE, place), after, row["envelope"], envelope, *hashes)
                renewed += done.endswith(" 1")
    return Rotated(renewed, failed)


async def try_all(connection: asyncpg.Connection, vault: Vault) -> tuple[int, Mapping[str, str]]:
    """How many secrets these keys open, and which they do not and why. Older databases lack some of the columns."""
    opened, failed = 0, {}
    for place in SEALED:
        after = FIRST
        if not await connection.fetchval(THERE, place.table, place.column):
            continue
        while rows := await connection.fetch(_filled(ALL_OF, place), after, BATCH):
            for row in rows:
                after = key(row["id"])
                try:
                    vault.open(key(row["project_id"]), after, place.field, row["envelope"])
                    opened += 1
                except Unopenable as error:
                    failed[f"{place.table} {after}"] = str(error)
    return opened, failed


async def require_fitting(connection: asyncpg.Connection, vault: Vault) -> None:
    """Raises `Unusable` for keys that open nothing here, although something is there: whoever has other keys than the
    installation can deliver nothing, and would seal what nobody else can open.
    """
    problem = None
    for row in await connection.fetch(BY_KEY):
        try:
            vault.open(key(row["id"]), key(row["id"]), TOKEN_FIELD, row["token_sealed"])
            return
        except Unopenable as error:
            problem = error
    if problem is not None:
        raise Unusable("TOCSIN_SECRET_KEYS", f"is of another installation than this database; {problem}")


async def behind(connection: asyncpg.Connection, vault: Vault) -> list[str]:
    """The parts of the running service (`api`, `engine`) that do not seal with the newest key: they may not know it."""
    rows = await connection.fetch(BEHIND, vault.key_id)
    return sorted({row["application_name"].removeprefix("tocsin ").partition(",")[0] for row in rows})


async def last_sign_in_ends(connection: asyncpg.Connection) -> datetime | None:
    """Until when a session may have a token hashed with an older key (of which only the hash is stored)."""
    ends: datetime | None = await connection.fetchval(LATEST_SIGN_IN)
    return ends


def _filled(statement: str, place: Sealed) -> str:
    hashed = f", {place.hashed} = $4" if place.hashed else ""
    return statement.format(table=place.table, column=place.column, project=place.project, hashed=hashed)
