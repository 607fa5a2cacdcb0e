"""Sources: other systems that send their alerts, and the keys by which their addresses are known."""

from __future__ import annotations

import secrets
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from tocsin.domain import ids
from tocsin.domain.dependencies import Written
from tocsin.domain.resources.source import RESOURCE as SOURCE
from tocsin.domain.sources.base import KEY_FIELD, KEY_LENGTH, SIGNING_FIELD
from tocsin.storage.channels import attachments
from tocsin.storage.monitoring import deletion
from tocsin.storage.notifying import depends_on
from tocsin.storage.postgres.database import Tx, key
from tocsin.storage.postgres.secrets import Vault

if TYPE_CHECKING:
    from asyncpg import Record

LETTERS = string.ascii_letters + string.digits

STORED = """s.id, s.project_id, s.name, s.type, s.settings, s.key_sealed, s.signing_sealed, s.stale_after, s.depends_on,
    s.last_body_at, s.created_at, s.updated_at"""
MANY = 1_000
"""Where counting of ongoing incidents ends."""
SEEN = f"""
CROSS JOIN LATERAL (
    SELECT count(*) AS ongoing FROM (SELECT FROM ongoing WHERE resource_id = s.id LIMIT {MANY}) o
) o
"""

INSERT = """
INSERT INTO sources (id, project_id, name, type, settings, key_hash, key_sealed, signing_sealed, stale_after)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
"""
ONE = f"SELECT {STORED}, o.ongoing FROM sources s {SEEN} WHERE s.id = $2 AND s.project_id = $1"
CHANGING = f"SELECT {STORED}, 0 AS ongoing FROM sources s WHERE s.id = $2 AND s.project_id = $1 FOR UPDATE"
COUNT = "SELECT count(*) FROM sources WHERE project_id = $1"
LIST = f"""
SELECT {STORED}, o.ongoing
FROM (SELECT * FROM sources WHERE project_id = $1 ORDER BY lower(name), id LIMIT $2 OFFSET $3) s {SEEN}
ORDER BY lower(s.name), s.id
"""
OF_KEY = f"SELECT {STORED}, 0 AS ongoing FROM sources s WHERE key_hash = ANY ($1::bytea[]) LIMIT 1"
UPDATE = """
UPDATE sources SET name = $2, settings = $3, signing_sealed = $4, stale_after = $5, updated_at = now() WHERE id = $1
"""
SET_KEY = "UPDATE sources SET key_hash = $2, key_sealed = $3, updated_at = now() WHERE id = $1"
DELETE = "DELETE FROM sources WHERE id = $1"


@dataclass(frozen=True, slots=True)
class SourceConfig:
    """What an owner configured. `signing_secret`: what its sender signs with. `stale_after` is seconds."""

    name: str
    type: str
    settings: Mapping[str, Any]
    signing_secret: str | None = None
    stale_after: int | None = None


@dataclass(frozen=True, slots=True, repr=False)
class Source:
    """A source. `key` is the secret of its address."""

    id: UUID
    project_id: UUID
    wanted: SourceConfig
    key: str
    depends_on: Written
    last_body_at: datetime | None
    created_at: datetime
    updated_at: datetime
    ongoing: int = 0


def new_key() -> str:
    return "".join(secrets.choice(LETTERS) for _ in range(KEY_LENGTH))


async def create(tx: Tx, vault: Vault, project_id: UUID, wanted: SourceConfig) -> UUID:
    """Create a source, with a new address. Returns its key in the database."""
    new, secret = ids.new(), new_key()
    await tx.execute(
        INSERT, new, project_id, wanted.name, wanted.type, wanted.settings, vault.token_hash(secret),
        vault.seal(project_id, new, KEY_FIELD, secret.encode()), _signing(vault, project_id, new, wanted),
        wanted.stale_after,
    )  # fmt: skip
    await attachments.attach_new_resource(tx, project_id, new)
    return new


async def one(tx: Tx, vault: Vault, project_id: UUID, source_id: UUID) -> Source | None:
    """The project's source with that key."""
    row = await tx.fetchrow(ONE, project_id, source_id)
    return row and _source(vault, row)


async def list_(tx: Tx, vault: Vault, project_id: UUID, *, limit: int, offset: int) -> tuple[Sequence[Source], int]:
    """A page of the project's sources, by name, and how many there are in all."""
    total = await tx.fetchval(COUNT, project_id)
    rows = await tx.fetch(LIST, project_id, limit, offset) if offset < total else []
    return [_source(vault, row) for row in rows], total


async def of_key(tx: Tx, vault: Vault, given: str) -> Source | None:
    """The source whose address has that secret, of whatever project."""
    row = await tx.fetchrow(OF_KEY, vault.token_hashes(given))
    return row and _source(vault, row)


async def changing(tx: Tx, vault: Vault, project_id: UUID, source_id: UUID) -> Source | None:
    """The project's source, locked until the transaction ends."""
    row = await tx.fetchrow(CHANGING, project_id, source_id)
    return row and _source(vault, row)


async def change(tx: Tx, vault: Vault, before: Source, after: SourceConfig) -> None:
    """Change a source that `changing` has locked. Its alerts are judged by the new settings from their next mention."""
    sealed = _signing(vault, before.project_id, before.id, after)
    await tx.execute(UPDATE, before.id, after.name, after.settings, sealed, after.stale_after)


async def rotate(tx: Tx, vault: Vault, source: Source) -> None:
    """Give a source that `changing` has locked a new address; the old one is known no more."""
    secret = new_key()
    sealed = vault.seal(source.project_id, source.id, KEY_FIELD, secret.encode())
    await tx.execute(SET_KEY, source.id, vault.token_hash(secret), sealed)


async def delete(tx: Tx, vault: Vault, project_id: UUID, source_id: UUID) -> bool:
    """Delete a source, resolving its incidents. Returns whether it existed."""
    await depends_on.lock(tx, project_id)
    if await changing(tx, vault, project_id, source_id) is None:
        return False
    await deletion.forget(tx, project_id, SOURCE, source_id)
    await tx.execute(DELETE, source_id)
    return True


def _signing(vault: Vault, project_id: UUID, source_id: UUID, wanted: SourceConfig) -> bytes | None:
    if wanted.signing_secret is None:
        return None
    return vault.seal(project_id, source_id, SIGNING_FIELD, wanted.signing_secret.encode())


def _source(vault: Vault, row: Record) -> Source:
    source_id, project_id = key(row["id"]), key(row["project_id"])
    signing = row["signing_sealed"]
    return Source(
        id=source_id,
        project_id=project_id,
        wanted=SourceConfig(
            row["name"],
            row["type"],
            row["settings"],
            None if signing is None else vault.open(project_id, source_id, SIGNING_FIELD, signing).decode(),
            row["stale_after"],
        ),
        key=vault.open(project_id, source_id, KEY_FIELD, row["key_sealed"]).decode(),
        depends_on=row["depends_on"],
        last_body_at=row["last_body_at"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        ongoing=row["ongoing"],
    )
