"""Probes: made and revoked by the operator; heard of, and their results taken."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from tocsin.actions.base import INSTALLATION, OPERATOR, SYSTEM, Actor, Change, action, unrecorded
from tocsin.actions.batches import ResultBatch
from tocsin.domain import places
from tocsin.domain.errors import forbidden_state, invalid_field, not_found
from tocsin.domain.resources.probe import RESOURCE as PROBE
from tocsin.storage.monitoring import probes as stored
from tocsin.storage.monitoring.probe_results import Sent, Taken
from tocsin.storage.monitoring.probes import Caller
from tocsin.storage.postgres.database import Tx
from tocsin.storage.postgres.secrets import Vault


@dataclass(frozen=True, slots=True)
class Made:
    """A new probe, and its token, which is not shown again."""

    id: UUID
    name: str
    token: str


@dataclass(frozen=True, slots=True)
class Revoked:
    """How many monitors it checked, and how many of them nobody checks now."""

    name: str
    monitors: int
    unchecked: int


@action("made probe", by=OPERATOR)
async def create(
    tx: Tx, actor: Actor, vault: Vault, name: str, only_project: UUID | None = None
) -> tuple[Made, Change]:
    """Make a probe, or a new token for one that was revoked. Only monitors of `only_project` may then use it.

    If it is silent, that is an incident of the actor's project, or of the operator's first one. Raises `Refused`.
    """
    lower = places.checked_name(name)
    project_id = actor.project_id if actor.project_id != INSTALLATION else await stored.operators_project(tx)
    if project_id is None:
        raise forbidden_state("There is no project whose incident it would be if the probe is silent: name one")
    made = await stored.create(tx, vault, project_id, lower, only_project)
    if made is None:
        why = f"{lower} is a probe already, or was another project's"
        raise invalid_field("name", f"{why}; revoke it first to give it a new token, or take another name")
    return Made(made[0], lower, made[1]), Change(lower, {"uuid": PROBE.public(made[0])}, project_id)


@action("revoked probe", by=OPERATOR)
async def revoke(tx: Tx, actor: Actor, name: str) -> tuple[Revoked, Change]:
    """Its token opens nothing any more, and it is no place any more. Raises `Refused` (404)."""
    done = await stored.revoke(tx, name.lower())
    if done is None:
        raise not_found("probe")
    return Revoked(name.lower(), done.monitors, done.unchecked), Change(
        name.lower(), {"uuid": PROBE.public(done.id)}, done.project_id
    )


@unrecorded("to show a token changes nothing", by=SYSTEM)
async def identify(tx: Tx, actor: Actor, vault: Vault, token: str) -> Caller | None:
    """The probe whose token it is."""
    return await stored.of_token(tx, vault, token)


@unrecorded("it is seen on the probe", by=SYSTEM)
async def hear(tx: Tx, actor: Actor, probe: Caller, version: str) -> None:
    """A probe is there."""
    await stored.heard(tx, probe, version)


@unrecorded("the checks are its record", by=SYSTEM)
async def report(batch: ResultBatch, actor: Actor, given: Sent) -> Taken | None:
    """Take what a probe saw. None: it was revoked meanwhile."""
    return await batch(given)
