"""What is done to sources, on one that is made for it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from tocsin.actions import sources
from tocsin.actions.base import Actor
from tocsin.actions.sources import SourceFields
from tocsin.storage.monitoring import sources as stored
from tocsin.storage.monitoring.sources import SourceConfig
from tocsin.storage.postgres.database import Tx

WANTED = SourceConfig("Backups", "generic", {})


async def _made(tx: Tx, house: Any) -> UUID:
    return await stored.create(tx, house.vault, house.project_id, WANTED)


async def _change(tx: Tx, actor: Actor, house: Any) -> Any:
    return await sources.change(tx, actor, house.vault, await _made(tx, house), SourceFields(name="Others"))


async def _rotate(tx: Tx, actor: Actor, house: Any) -> Any:
    return await sources.rotate(tx, actor, house.vault, await _made(tx, house))


async def _delete(tx: Tx, actor: Actor, house: Any) -> Any:
    return await sources.delete(tx, actor, house.vault, await _made(tx, house))


CALLS = {
    "sources.create": lambda tx, a, h: sources.create(tx, a, h.vault, WANTED),
    "sources.change": _change,
    "sources.rotate": _rotate,
    "sources.delete": _delete,
}
