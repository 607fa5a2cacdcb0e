"""What a decision goes by, as it stands now: integrations, attachments, silences, dependencies, and who is on duty."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from msgspec.structs import replace

from tocsin.domain import hours, notifying
from tocsin.domain.attachments import Attachment
from tocsin.domain.dependencies import REACHABILITY
from tocsin.domain.flapping import Flapping
from tocsin.domain.incidents import DRILL, Incident
from tocsin.domain.monitors import PROBLEMS
from tocsin.domain.notifying import Candidate, Occasion, Parents
from tocsin.domain.on_call import TYPE as ON_CALL
from tocsin.domain.servers import GONE_AFTER
from tocsin.domain.silences import ScopedSpan
from tocsin.storage.delivery import flapping, queue
from tocsin.storage.notifying import blocked, dependencies, on_call, silences
from tocsin.storage.notifying.dependencies import ParentState
from tocsin.storage.postgres.database import Tx, key

if TYPE_CHECKING:
    from asyncpg import Record

CANDIDATES = f"""
SELECT i.id, i.type, coalesce(i.name, i.settings->>'email', i.settings->>'phone_number', i.settings->>'webhook_url',
                              i.type) AS name, i.repeatable,
       {queue.DISABLED} AS disabled,
       {blocked.WHOLE}, i.project_id,
       EXISTS (SELECT FROM silences s WHERE s.project_id = i.project_id AND (s.over_at IS NULL OR s.over_at > $2))
           AS silences
FROM integrations i WHERE i.id = ANY($1::uuid[])
"""

ATTACHMENTS = """
SELECT resource_id, integration_id, after, repeat, incident_types, severity, hours, to_everything
FROM attachments WHERE resource_id = ANY($1::uuid[]) AND integration_id = ANY($2::uuid[])
"""

GONE = "SELECT server_id FROM server_states WHERE server_id = ANY($1::uuid[]) AND seen_at <= $2"

WRITTEN_DOWN = silences.EXTENDED_WITHIN
A_MOMENT = timedelta(seconds=1)
A_DAY = timedelta(days=1)
"""What began later is no reminder of a server that is gone for good: that takes longer."""


@dataclass(slots=True)
class Circumstances:
    """What is known about some incidents and integrations."""

    now: datetime
    everybody: Mapping[UUID, Candidate]
    attachments: Mapping[tuple[UUID, UUID], Attachment]
    parents: Mapping[UUID, ParentState]
    children: Mapping[UUID, Sequence[tuple[UUID, str]]]
    silenced_projects: Collection[UUID]
    flapping: Mapping[UUID, Flapping]
    gone: Collection[UUID] = frozenset()
    _spans: dict[tuple[UUID, datetime, datetime, tuple[UUID, ...]], list[ScopedSpan]] = field(default_factory=dict)

    def candidate(self, integration_id: UUID, resource_id: UUID) -> Candidate | None:
        """The integration as it is attached to that resource; None if it does not exist."""
        found = self.everybody.get(integration_id)
        return found and replace(found, attachment=self.attachments.get((resource_id, integration_id)))

    def flooded(self, until: Mapping[UUID, datetime | None]) -> Mapping[UUID, Candidate]:
        """Everybody, with when the summary of these goes out."""
        changed = {id_: replace(self.everybody[id_], flooded_until=at) for id_, at in until.items() if at is not None}
        return {**self.everybody, **changed} if changed else self.everybody

    def occasion(self, incident: Incident, told: Collection[UUID]) -> Occasion:
        until = incident.acknowledged_until
        acknowledged = incident.acknowledged_by if until is None or until > self.now else None
        if incident.type == DRILL:  # everybody is asked
            acknowledged = None
        children = self.children.get(incident.resource_id, ()) if incident.type in REACHABILITY else ()
        return Occasion(
            type=incident.type,
            severity=incident.severity,
            began_at=incident.created_at,
            acknowledged_by=acknowledged,
            snooze_until=incident.snooze_until,
            told=told,
            parents=_parents(self.parents.get(incident.resource_id)),
            explained=tuple(name for _, name in children),
            flapping=self._flapping(incident),
            gone=incident.resource_id in self.gone,
        )

    def _flapping(self, incident: Incident) -> Flapping | None:
        found = self.flapping.get(incident.resource_id) if incident.type in PROBLEMS else None
        return found if found is not None and incident.created_at > found.began_at else None

    async def silences(self, tx: Tx, incident: Incident, to: Candidate) -> list[ScopedSpan]:
        """The spans over its resource from its beginning to the integration's turn at least."""
        if to.attachment is None or incident.project_id not in self.silenced_projects:
            return []
        end = max(self.now, incident.created_at + timedelta(seconds=to.attachment.after)) + A_MOMENT
        concerned = (to.id, *sorted(notifying.members(to.schedule)))
        asked = incident.resource_id, incident.created_at, end, concerned
        if asked not in self._spans:
            known = silences.spans_over if end < datetime.now(UTC) + WRITTEN_DOWN else silences.computed_spans
            self._spans[asked] = await known(tx, incident.project_id, *asked)
        return self._spans[asked]


async def of_incidents(
    tx: Tx, lasting: Collection[Incident], integrations: Collection[UUID], now: datetime
) -> Circumstances:
    """What is known about these incidents and integrations."""
    began = min((each.created_at for each in lasting), default=now)
    everybody, silenced = await _integrations(tx, integrations, min(began, now))
    resources = {each.resource_id for each in lasting}
    unreachable = {each.resource_id for each in lasting if each.type in REACHABILITY}
    checked = {each.resource_id for each in lasting if each.type in PROBLEMS}
    return Circumstances(
        now,
        everybody,
        await _attachments(tx, resources, integrations),
        await dependencies.states(tx, unreachable),
        await dependencies.children_of(tx, unreachable),
        silenced,
        await flapping.of(tx, checked),
        await _gone(tx, {each.resource_id for each in lasting if now - each.created_at >= A_DAY}, now),
    )


async def _gone(tx: Tx, resources: Collection[UUID], now: datetime) -> set[UUID]:
    """Those of these that are servers which have not reported for long."""
    rows = await tx.fetch(GONE, list(resources), now - GONE_AFTER) if resources else []
    return {key(row["server_id"]) for row in rows}


async def _integrations(
    tx: Tx, integrations: Iterable[UUID], since: datetime
) -> tuple[dict[UUID, Candidate], set[UUID]]:
    """These, and whoever may be on duty for them, without what they are attached to; and those of their projects that
    have silences which were not over by then.
    """
    rows = {key(row["id"]): row for row in await tx.fetch(CANDIDATES, list(integrations), since)}
    schedules = await on_call.schedule(tx, [id_ for id_, row in rows.items() if row["type"] == ON_CALL])
    members = frozenset().union(*map(notifying.members, schedules.values())) - rows.keys()
    if members:
        rows |= {key(row["id"]): row for row in await tx.fetch(CANDIDATES, list(members), since)}
    found = {
        id_: Candidate(
            id=id_,
            name=row["name"],
            repeatable=row["repeatable"],
            disabled=row["disabled"],
            blocked=blocked.whole_reason(row),
            schedule=schedules.get(id_),
        )
        for id_, row in rows.items()
    }
    return found, {key(row["project_id"]) for row in rows.values() if row["silences"]}


async def _attachments(
    tx: Tx, resources: Collection[UUID], integrations: Collection[UUID]
) -> dict[tuple[UUID, UUID], Attachment]:
    rows = await tx.fetch(ATTACHMENTS, list(resources), list(integrations))
    return {(key(row["resource_id"]), key(row["integration_id"])): attachment(row) for row in rows}


def attachment(row: Record) -> Attachment:
    """The attachment in a row of its table."""
    types, given = row["incident_types"], row["hours"]
    return Attachment(
        row["after"], row["repeat"], None if types is None else tuple(types), row["severity"],
        None if given is None else hours.parse(given, "hours"), row["to_everything"],
    )  # fmt: skip


def _parents(state: ParentState | None) -> Parents | None:
    if state is None:
        return None
    if state.explained_by:
        return Parents("down", tuple(each.name for each in state.explained_by))
    if state.asking:
        return Parents("asked", state.asking)
    return None if state.rechecked else Parents("settling", (), state.recheck_by)
