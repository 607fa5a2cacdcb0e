"""How each action of heartbeats is done by somebody who may."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from tests.actions.house import Call, House
from tocsin.actions import heartbeats
from tocsin.actions.base import Actor
from tocsin.actions.heartbeats import HeartbeatFields
from tocsin.domain.heartbeats import HeartbeatConfig
from tocsin.storage.monitoring import heartbeats as stored
from tocsin.storage.postgres.database import Tx

NIGHTLY = HeartbeatConfig("Nightly backup", "nightly-backup")


async def there(tx: Tx, house: House) -> UUID:
    """A heartbeat of the house."""
    return await stored.create(tx, house.vault, house.project_id, NIGHTLY)


async def change(tx: Tx, actor: Actor, house: House) -> Any:
    given = HeartbeatFields(period=60)
    return await heartbeats.change(tx, actor, house.vault, await there(tx, house), given, production=True)


async def rotate(tx: Tx, actor: Actor, house: House) -> Any:
    return await heartbeats.rotate(tx, actor, house.vault, await there(tx, house))


async def delete(tx: Tx, actor: Actor, house: House) -> Any:
    return await heartbeats.delete(tx, actor, house.vault, await there(tx, house))


HEARTBEATS: dict[str, Call] = {
    "heartbeats.create": lambda tx, a, h: heartbeats.create(tx, a, h.vault, NIGHTLY),
    "heartbeats.change": change,
    "heartbeats.rotate": rotate,
    "heartbeats.delete": delete,
    "heartbeats.new_ping_key": lambda tx, a, h: heartbeats.new_ping_key(tx, a, h.vault),
}
