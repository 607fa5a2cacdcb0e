"""Replays: what a receiver missed while it was down is sent again, and stopped."""

from __future__ import annotations

from uuid import UUID

from tocsin.actions.base import Actor, Change, action
from tocsin.actions.integrations import changed, existing
from tocsin.domain import ids
from tocsin.domain.errors import forbidden_state, invalid_field, not_found
from tocsin.domain.replays import MAX_DELIVERIES, Selection
from tocsin.integrations import base
from tocsin.storage.channels import integrations
from tocsin.storage.delivery import replays, selections
from tocsin.storage.delivery.replays import Replay
from tocsin.storage.postgres.database import Tx
from tocsin.storage.postgres.secrets import Vault

COUNTED = 10 * MAX_DELIVERIES
"""Up to how many are counted for the answer that they are too many."""
NEVER_RESTARTS = (
    "Restarts are never sent again by the range: order a single one with POST /api/v1/deliveries/:uuid/redeliver"
)
ONE_AT_A_TIME = "A replay to this integration is running already; wait until it has finished, or stop it"
NOTHING = "There is nothing to send again in this range with this status"


@action("started a replay")
async def create(
    tx: Tx, actor: Actor, vault: Vault, key: UUID, selection: Selection
) -> tuple[Replay, Change]:
    """Send again what the integration missed. Raises `Refused`: 404, or 422 if it restarts a server, if another replay
    is running, or if there is nothing to send or too much.
    """
    found = existing(await integrations.one(tx, vault, actor.project_id, key))
    if not base.of(found.type).repeatable:
        raise forbidden_state(NEVER_RESTARTS)
    if await replays.running(tx, actor.project_id, key) is not None:
        raise forbidden_state(ONE_AT_A_TIME)
    total = sum((await selections.count(tx, actor.project_id, key, selection, limit=COUNTED)).values())
    if total > MAX_DELIVERIES:
        many = f"{total:,}" if total < COUNTED else f"{COUNTED:,} or more"
        raise invalid_field("from", f"selects {many} deliveries; one replay sends at most {MAX_DELIVERIES:,}")
    if total == 0:
        raise forbidden_state(NOTHING)
    made = await replays.create(tx, actor.project_id, key, selection, total, actor.name)
    if made is None:
        raise forbidden_state(ONE_AT_A_TIME)
    details = {"replay": ids.public(ids.REPLAY, made.id), "status": selection.status, "deliveries": total}
    return made, changed(found, **details)


@action("stopped a replay")
async def stop(tx: Tx, actor: Actor, key: UUID) -> tuple[Replay, Change | None]:
    """Queue nothing more. What waits for another attempt is suppressed; one that has ended is returned as it is."""
    replay = await replays.one(tx, actor.project_id, key)
    if replay is None:
        raise not_found("replay")
    stopped = await replays.stop(tx, actor.project_id, key, "the replay was stopped")
    if stopped is None:
        ended = await replays.one(tx, actor.project_id, key)
        assert ended is not None
        return ended, None
    return stopped, Change(
        ids.public(ids.REPLAY, key), {"integration": ids.public(ids.INTEGRATION, replay.integration_id)}
    )
