"""The last bodies that were sent to a source, and what became of each: so that people see what they did wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from tocsin.domain import ids, names
from tocsin.storage.postgres.database import Tx, key

KEPT = 20
"""Of each kind, of one source."""
MAX_BODY = 64 * 1024
"""Bytes that are kept of one body."""
MAX_BECAME = 1_000

Kind = Literal["taken", "refused", "note"]

INSERT = "INSERT INTO source_bodies (id, source_id, kind, became, body, size) VALUES ($1, $2, $3, $4, $5, $6)"
FORGET = f"""
DELETE FROM source_bodies WHERE id IN (
    SELECT id FROM source_bodies WHERE source_id = $1 AND kind = $2 ORDER BY id DESC OFFSET {KEPT}
)
"""
LATEST = """
SELECT id, at, kind, became, left(body, $3) AS body, size FROM (
    SELECT * FROM source_bodies WHERE source_id = $1 AND kind = ANY ($2::text[])
) b ORDER BY id DESC
"""
EXISTS = "SELECT true FROM sources WHERE id = $1 FOR KEY SHARE"


@dataclass(frozen=True, slots=True)
class Body:
    """One body, or its beginning. `size` is in bytes, of the whole."""

    id: UUID
    at: datetime
    kind: Kind
    became: str
    body: str
    size: int


async def keep(tx: Tx, source_id: UUID, kind: Kind, became: str, body: bytes, secret: str) -> None:
    """Keep a body, and no more than the last of its kind. `secret` is masked in it."""
    if await tx.fetchval(EXISTS, source_id) is None:
        return
    text = body[: MAX_BODY].decode(errors="replace").replace("\0", "\ufffd").replace(secret, "********")
    await tx.execute(INSERT, ids.new(), source_id, kind, names.cut(became, MAX_BECAME), text, len(body))
    await tx.execute(FORGET, source_id, kind)


async def latest(
    tx: Tx, source_id: UUID, kinds: Sequence[Kind] = ("taken", "refused", "note"), *, characters: int = MAX_BODY
) -> list[Body]:
    """Those that are kept, newest first, each up to so many characters."""
    rows = await tx.fetch(LATEST, source_id, list(kinds), characters)
    return [Body(**{**row, "id": key(row["id"])}) for row in rows]
