"""On-call schedules: who takes over when, and the address of their calendar. Settings are those of the integration."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from tocsin.actions.base import Actor, Change, action
from tocsin.domain import ids
from tocsin.domain.errors import forbidden_state, invalid_field, not_found
from tocsin.domain.on_call import TYPE, Override
from tocsin.integrations import base
from tocsin.integrations.on_call import check_members
from tocsin.storage.channels import integrations
from tocsin.storage.channels.integrations import Integration
from tocsin.storage.notifying import on_call as stored
from tocsin.storage.notifying.on_call import StoredOverride
from tocsin.storage.postgres.database import Tx
from tocsin.storage.postgres.secrets import Vault

MAX_OVERRIDES = 100
LONGEST = timedelta(days=366)


@action("put somebody on duty")
async def add_override(
    tx: Tx, actor: Actor, vault: Vault, on_call_id: UUID, wanted: Override
) -> tuple[StoredOverride, Change]:
    """An integration of the project is on duty from a time until another. Raises `Refused`."""
    await stored.lock(tx, actor.project_id)
    found = on_call_one(await integrations.changing(tx, vault, actor.project_id, on_call_id))
    now: datetime = await tx.fetchval("SELECT now()")
    if wanted.ends_at <= wanted.starts_at:
        raise invalid_field("until", "must be after from")
    if wanted.ends_at <= now:
        raise invalid_field("until", "must be in the future")
    if wanted.ends_at - wanted.starts_at > LONGEST:
        raise invalid_field("until", "must be at most 366 days after from")
    await check_members(tx, actor.project_id, [wanted.integration], "integration_id")
    if await stored.count_overrides(tx, on_call_id) >= MAX_OVERRIDES:
        raise forbidden_state(f"A schedule has at most {MAX_OVERRIDES} overrides; delete one first")
    made = await stored.add_override(tx, actor.project_id, on_call_id, wanted)
    return made, _change(found, made)


@action("took back who is on duty")
async def delete_override(
    tx: Tx, actor: Actor, vault: Vault, on_call_id: UUID, override_id: UUID
) -> tuple[StoredOverride, Change]:
    """Raises `Refused` (404)."""
    found = on_call_one(await integrations.changing(tx, vault, actor.project_id, on_call_id))
    gone = await stored.remove_override(tx, actor.project_id, on_call_id, override_id)
    if gone is None:
        raise not_found("override")
    return gone, _change(found, gone)


@action("changed the calendar's address")
async def rotate_feed(tx: Tx, actor: Actor, vault: Vault, on_call_id: UUID) -> tuple[int, Change]:
    """The old address stops working. Returns the number of the new one."""
    found = on_call_one(await integrations.changing(tx, vault, actor.project_id, on_call_id))
    number = await stored.rotate_feed(tx, actor.project_id, on_call_id)
    return number, Change(base.display_name(found), {"uuid": ids.public(ids.INTEGRATION, found.id)})


def on_call_one(found: Integration | None) -> Integration:
    """The integration; raises `Refused`: 404 where there is none, 422 where it is of another type."""
    if found is None:
        raise not_found("integration")
    if found.type != TYPE:
        raise forbidden_state("Only an on-call schedule has that")
    return found


def _change(found: Integration, override: StoredOverride) -> Change:
    return Change(base.display_name(found), {
        "uuid": ids.public(ids.INTEGRATION, found.id),
        "integration": ids.public(ids.INTEGRATION, override.integration_id),
        "from": override.starts_at.isoformat(timespec="seconds"),
        "until": override.ends_at.isoformat(timespec="seconds"),
    })  # fmt: skip
