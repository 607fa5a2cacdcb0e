"""The audit log: who changed what and when, written in the transaction of the change itself.

What machines do by the thousand (reporting, opening and resolving incidents in batches) is recorded as its result,
and not here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from tocsin.storage.postgres.database import Tx, key

API_TOKEN = "API token"
"""The actor for calls with the project's own token."""
OPERATOR = "operator's command line"
"""The actor for commands run on the machine."""

NOTE = """
INSERT INTO audit (project_id, who, action, subject, details)
VALUES ($1, coalesce((SELECT email FROM users WHERE id = $2), $3, 'a user who is gone'), $4, $5, $6)
"""

LIST = """
SELECT id, who, action, subject, details, at FROM audit
WHERE project_id IS NOT DISTINCT FROM $1 ORDER BY id DESC LIMIT $2 OFFSET $3
"""

PAGE = """
SELECT id, who, action, subject, details, at FROM audit
WHERE project_id = $1 AND id < coalesce($2::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff') ORDER BY id DESC LIMIT $3
"""
PAGE_OF_ONE = PAGE.replace("project_id = $1", "project_id = $1 AND who = $4")

# From name to name, each found at the end of the index: as fast for a million entries as for ten.
WHO = """
WITH RECURSIVE names AS (
    (SELECT who FROM audit WHERE project_id = $1 ORDER BY who LIMIT 1)
    UNION ALL
    SELECT (SELECT a.who FROM audit a WHERE a.project_id = $1 AND a.who > n.who ORDER BY a.who LIMIT 1)
    FROM names n WHERE n.who IS NOT NULL
)
SELECT who FROM names WHERE who IS NOT NULL LIMIT 200
"""

COUNT = "SELECT count(*) FROM audit WHERE project_id IS NOT DISTINCT FROM $1"


ADDRESS = re.compile(r"(\w+://)(?:[^/\s?#]*@)?([^/\s?#]+)([/?#]\S+)?")


@dataclass(frozen=True, slots=True)
class Entry:
    """One change. `action` is what was done, in the past tense ("changed integration"); `subject` what it was done to,
    by its display name; `details` are plain values, such as `{"fields": ["port"]}`.
    """

    id: UUID
    who: str
    action: str
    subject: str
    details: dict[str, Any]
    at: datetime


async def note(
    tx: Tx,
    project_id: UUID | None,
    who: str | UUID,
    action: str,
    subject: str,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Record a change. `who` is a user's key or address, `API_TOKEN` or `OPERATOR`; no project means the
    installation.

    Every member of the project may read it, so neither `subject` nor `details` hold a secret: name the setting that
    changed, not its value. Of a web address in `subject` only the host is kept: the rest may be a credential.
    """
    user_id, name = (who, None) if isinstance(who, UUID) else (None, who)
    await tx.execute(NOTE, project_id, user_id, name, action, _harmless(subject), dict(details or {}))


async def list_(tx: Tx, project_id: UUID | None, *, limit: int, offset: int = 0) -> tuple[list[Entry], int]:
    """The project's changes (those of the installation for None), newest first, and how many there are in all."""
    rows = await tx.fetch(LIST, project_id, limit, offset)
    return [_entry(row) for row in rows], await tx.fetchval(COUNT, project_id)


async def page(
    tx: Tx, project_id: UUID, *, limit: int, before: UUID | None = None, who: str | None = None
) -> list[Entry]:
    """The project's changes that are older than the entry `before`, newest first; of one person where `who` is given.

    However many there are, it looks at no more than it returns.
    """
    rows = (
        await tx.fetch(PAGE, project_id, before, limit)
        if who is None
        else await tx.fetch(PAGE_OF_ONE, project_id, before, limit, who)
    )
    return [_entry(row) for row in rows]


async def everybody(tx: Tx, project_id: UUID) -> list[str]:
    """The names of all who have changed anything in the project."""
    return [row["who"] for row in await tx.fetch(WHO, project_id)]


def _entry(row: asyncpg.Record) -> Entry:
    return Entry(key(row["id"]), row["who"], row["action"], row["subject"], row["details"], row["at"])


def _harmless(subject: str) -> str:
    return ADDRESS.sub(lambda found: f"{found[1]}{found[2]}{'/…' if found[3] else ''}", subject)
