"""Backups of the whole installation."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from tocsin.actions.base import OPERATOR, Actor, Change, action
from tocsin.storage.channels import restarts
from tocsin.storage.delivery import health, restored
from tocsin.storage.postgres.database import Tx

NOBODY = UUID(int=0)
WORDS = (
    "Tocsin was restored from a backup of {at:%Y-%m-%d %H:%M} UTC. {count} {restarts} that had been asked for by then "
    "may have been made since, so the outcome is unknown and nothing is repeated. Please check the machines."
)


@action("took a backup", by=OPERATOR)
async def take(tx: Tx, actor: Actor, name: str) -> tuple[None, Change]:
    """Note that somebody has taken everything, keys included, in a file of that name."""
    return None, Change(name)


@action("restored a backup", by=OPERATOR)
async def restore(tx: Tx, actor: Actor, taken_at: datetime) -> tuple[int, Change]:
    """Settle what a backup of that moment left open. Returns how many restarts ended with an unknown outcome."""
    ended = await restored.settle(tx, taken_at)
    await restarts.use_up(tx)
    for project_id, count in ended.items():
        words = WORDS.format(at=taken_at, count=count, restarts="restart" if count == 1 else "restarts")
        await health.notify_people(tx, project_id, words, exclude=NOBODY)
    total = sum(ended.values())
    return total, Change("installation", {"taken_at": f"{taken_at:%Y-%m-%dT%H:%M:%SZ}", "outcome_unknown": total})
