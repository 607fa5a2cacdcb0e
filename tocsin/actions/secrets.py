"""What is encrypted at rest, moved to the newest key."""

from __future__ import annotations

from tocsin.actions.base import OPERATOR, Actor, Change, action
from tocsin.storage.accounts import rotation
from tocsin.storage.accounts.rotation import Rotated
from tocsin.storage.postgres.database import Tx
from tocsin.storage.postgres.secrets import Vault


@action("rotated secrets", by=OPERATOR)
async def rotate(tx: Tx, actor: Actor, vault: Vault) -> tuple[Rotated, Change | None]:
    """In steps that are committed each for itself: give it a connection that is in no transaction."""
    done = await rotation.rotate(tx, vault)
    details = {"renewed": done.renewed, "failed": len(done.failed), "key": vault.key_id}
    return done, Change("installation", details) if done.renewed else None
