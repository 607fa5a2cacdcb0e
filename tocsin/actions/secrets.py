"""Key rotation of what is encrypted at rest."""

from __future__ import annotations

from tocsin.actions.base import OPERATOR, Actor, Change, action
from tocsin.storage.accounts import rotation
from tocsin.storage.accounts.rotation import Rotated
from tocsin.storage.postgres.database import Tx
from tocsin.storage.postgres.secrets import Vault


@action("rotated secrets", by=OPERATOR)
async def rotate(tx: Tx, actor: Actor, vault: Vault) -> tuple[Rotated, Change | None]:
    """In steps that are committed separately: pass a connection outside a transaction."""
    done = await rotation.rotate(tx, vault)
    details = {"renewed": done.renewed, "failed": len(done.failed), "key": vault.key_id}
    return done, Change("installation", details) if done.renewed else None
