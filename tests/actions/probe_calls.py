"""How each action of probes is done by somebody who may."""

from __future__ import annotations

from typing import Any

from tests.actions.house import Call, House
from tocsin.actions import probes
from tocsin.actions.base import Actor
from tocsin.storage.monitoring import probes as stored
from tocsin.storage.postgres.database import Tx


async def revoke(tx: Tx, actor: Actor, house: House) -> Any:
    await stored.create(tx, house.vault, house.project_id, "graz")
    return await probes.revoke(tx, actor, "graz")


PROBES: dict[str, Call] = {
    "probes.create": lambda tx, a, h: probes.create(tx, a, h.vault, "wien"),
    "probes.revoke": revoke,
}
