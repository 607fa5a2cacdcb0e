"""Opening incidents: each, with all its deliveries, in one statement and therefore in one transaction.

Deliveries that may be sent at once are handed off to a running engine as `storage.delivery.queue` describes; the
statement builds the jobs itself, because what it knows (recipients, what is new) would cost round trips to transfer.
Where more has to be known than that an integration is attached, the delivery is held until `storage.notifying.turns`
has decided about it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

import msgspec

from tocsin.domain import ids, requests
from tocsin.domain.incidents import (
    AT_ONCE,
    SEVERITIES,
    Evidence,
    Incident,
    Opened,
    OpenRequest,
    ResourceNotFound,
    Severity,
)
from tocsin.domain.resources import base as resources
from tocsin.storage.delivery import flapping, incidents, queue, severities
from tocsin.storage.delivery.incidents import IncidentKey
from tocsin.storage.delivery.queue import HAND_OFF_CHANNEL, LEASE, NOTIFY_LIMIT, TURNS_CHANNEL, WAKE_CHANNEL
from tocsin.storage.postgres.database import Tx, columns

if TYPE_CHECKING:
    from asyncpg import Record

NO_EVIDENCE = Evidence()


class KeyedRequest(msgspec.Struct, frozen=True, gc=False):
    """One open request, the number of its caller's batch, and the key that the incident gets if it is new."""

    id: UUID
    batch: int
    opening: OpenRequest


# Found by its key, whatever the planner believes about tables that were empty when it planned.
RESOURCE = """
        SELECT {name} AS name, coalesce(a.page, {url}) AS url
        FROM (SELECT * FROM {table} WHERE id = a.resource_id LIMIT 1) r
        WHERE r.project_id = a.project_id AND a.resource_type = '{type}'
"""

# Spans of silences that include the resource of `a` and last now. The range of its project's hash makes project and
# time one index (migration 0017).
SILENT_NOW = """
    SELECT p.silence_id, p.span FROM silence_spans p
    WHERE p.everything AND p.project_id = a.project_id AND p.span @> now()
      AND int8range(uuid_hash(p.project_id), uuid_hash(p.project_id), '[]')
          && int8range(uuid_hash(a.project_id), uuid_hash(a.project_id), '[]')
    UNION ALL
    SELECT p.silence_id, p.span
    FROM silences n CROSS JOIN LATERAL (
        SELECT * FROM silence_spans WHERE silence_id = n.id AND span @> now() OFFSET 0
    ) p
    WHERE n.resources @> ARRAY[a.resource_id] AND p.project_id = a.project_id
"""

# Those of them whose silence concerns such incidents, of whichever integrations.
SILENCES = f"""
    SELECT s.id, s.integrations, f.span
    FROM ({SILENT_NOW}) f CROSS JOIN LATERAL (SELECT * FROM silences WHERE id = f.silence_id LIMIT 1) s
    WHERE (s.incident_types IS NULL OR a.type = ANY(s.incident_types))
      AND (s.severity IS NULL OR {severities.rank("s.severity")} <= {severities.rank("a.severity")})
"""

# Whether a silence keeps the incident's deliveries waiting for a decision: what is for other integrations than those
# attached does not. And the silence that concerns the incident itself, not only some integrations: that of them which
# ends last. Asked only if there is any at all.
SILENCED = f"""
    SELECT s.* FROM (
        SELECT (array_agg(id ORDER BY upper(span) DESC) FILTER (WHERE integrations IS NULL))[1] AS silenced_by,
               bool_or(integrations IS NULL OR EXISTS (
                   SELECT FROM attachments t
                   WHERE t.resource_id = a.resource_id AND t.integration_id = ANY(integrations)
               )) AS waits
        FROM ({SILENCES}) s
    ) s
    WHERE (SELECT EXISTS (SELECT FROM silence_spans)) OFFSET 0  -- so that nothing is looked up before it is known
"""

# More has to be known than what is attached. Whoever may be on duty is never told at once.
DECIDED = f"""
    coalesce(s.waits, false)
    OR (SELECT EXISTS (SELECT FROM dependencies)) AND (
        EXISTS (SELECT FROM dependencies d WHERE d.child_id = a.resource_id)
        OR EXISTS (SELECT FROM dependencies d WHERE d.parent_id = a.resource_id)
    )
    OR {flapping.SILENT}
"""


class Known(NamedTuple):
    """What an opening looks at to know whether its deliveries wait for a decision, and which silence concerns it."""

    decided: str
    silenced_by: str
    joined: str


EVERYTHING = Known(DECIDED, "s.silenced_by", f"LEFT JOIN LATERAL ({SILENCED}) s ON true")
NOTHING = Known("false", "NULL::uuid", "")

ANYTHING_TO_KNOW = """
    SELECT EXISTS (SELECT FROM silence_spans) OR EXISTS (SELECT FROM dependencies)
           OR EXISTS (SELECT FROM flapping) AS more
"""

# Field by field: `job` is `queue.Job` with its `queue.Content`. As many of them in one NOTIFY as the largest lets fit.
# `at_once`: not held. Of those that are, it is decided later whether their integrations are disabled. If there is more
# to know than the statement looks at (`{enough}` is false), it does nothing but say so.
OPEN = f"""
WITH engine AS MATERIALIZED (
    {queue.ENGINE}
), circumstances AS MATERIALIZED (
    {ANYTHING_TO_KNOW}
), requests AS (
    SELECT * FROM unnest($1::uuid[], $2::int[], $3::uuid[], $4::text[], $5::uuid[], $6::text[], $7::text[], $8::text[],
                         $9::jsonb[], $10::text[], $11::text[], $12::jsonb[],
                         string_to_array($13, E'\\n', '')) WITH ORDINALITY
        AS g(id, batch, project_id, resource_type, resource_id, page, type, message, seen, severity, dedup_key,
             details, origin, n)
), found AS MATERIALIZED (
    SELECT a.*, r.name, r.url, {{known.silenced_by}} AS silenced_by, ({{known.decided}}) AS decided
    FROM requests a LEFT JOIN LATERAL (
        {{resources}}
        LIMIT 1
    ) r ON true {{known.joined}}
), refused AS MATERIALIZED (
    SELECT batch FROM found WHERE name IS NULL
), opened AS (
    INSERT INTO ongoing (resource_id, type, dedup_key, incident_id, project_id, severity, recipients)
    SELECT resource_id, type, dedup_key, id, project_id, severity,
           CASE WHEN decided THEN ARRAY[]::uuid[] ELSE
               ARRAY(SELECT integration_id FROM attachments a WHERE a.resource_id = found.resource_id AND a.at_once)
           END
    FROM found WHERE batch NOT IN (SELECT batch FROM refused) AND {{enough}} ORDER BY resource_id, type, dedup_key
    ON CONFLICT (resource_id, type, dedup_key) DO NOTHING
    RETURNING incident_id
), new AS MATERIALIZED (
    SELECT * FROM found WHERE id IN (SELECT incident_id FROM opened)
), stored AS (
    INSERT INTO incidents (id, project_id, resource_type, resource_id, resource_name, resource_url, type, dedup_key,
                           message, severity, details, silenced_by, origin, request, request_headers, response,
                           response_headers, created_at, updated_at)
    SELECT id, project_id, resource_type, resource_id, name, url, type, dedup_key, message, severity, details,
           silenced_by, origin, seen->>'request', seen->'request_headers', seen->>'response', seen->'response_headers',
           now(), now()
    FROM new
), attached AS (
    SELECT new_id() AS delivery_id, f.id AS incident_id, f.resource_type, f.name, f.url, f.type AS incident_type,
           f.message, f.severity, f.origin, i.project_id, i.id AS integration_id, i.type, i.version, i.for_people,
           i.repeatable, t.at_once, CASE WHEN t.at_once THEN {queue.DISABLED} END AS disabled,
           t.at_once AND i.repeatable AND i.failing_since IS NULL AND i.disabled_at IS NULL
               AND e.number IS NOT NULL AS ready
    FROM new f
    CROSS JOIN LATERAL (
        SELECT integration_id, at_once AND NOT f.decided AS at_once FROM attachments WHERE resource_id = f.resource_id
    ) t
    CROSS JOIN LATERAL (SELECT * FROM integrations WHERE id = t.integration_id LIMIT 1) i
    LEFT JOIN engine e ON true
), recipients AS MATERIALIZED (
    SELECT delivery_id, incident_id, project_id, integration_id, type, for_people, repeatable, at_once, disabled,
           CASE WHEN octet_length(job) < {NOTIFY_LIMIT} - 2 THEN job END AS job
    FROM attached LEFT JOIN LATERAL (
        SELECT json_build_array(
            delivery_id, project_id, integration_id, version, true, 'opened', 1, 0, false, now(),
            json_build_array(incident_id, resource_type, name, url, incident_type, message, now(), NULL, severity,
                             NULL, NULL, origin)
        )::text AS job OFFSET 0  -- built once, not once for each use
    ) j ON ready
), queued AS (
    INSERT INTO outstanding (id, project_id, integration_id, integration_type, for_people, repeatable, incident_id,
                             event, status, held, due_at, attempt, started_at, engine, leased_until, created_at)
    SELECT delivery_id, project_id, integration_id, type, for_people, repeatable, incident_id, 'opened',
           CASE WHEN job IS NULL THEN 'pending' ELSE 'sending' END,
           CASE WHEN NOT at_once THEN '{queue.TO_BE_DECIDED}' END, now(), (job IS NOT NULL)::int,
           CASE WHEN job IS NOT NULL THEN now() END, CASE WHEN job IS NOT NULL THEN (SELECT number FROM engine) END,
           CASE WHEN job IS NOT NULL THEN now() + interval '{LEASE} s' END, now()
    FROM recipients WHERE disabled IS NULL
), ended AS (
    INSERT INTO finished (id, project_id, integration_id, integration_type, incident_id, event, status, reason,
                          attempt, attempts, created_at, finished_at)
    SELECT delivery_id, project_id, integration_id, type, incident_id, 'opened', 'suppressed',
           'integration disabled ' || disabled, 0, '[]', now(), now()
    FROM recipients WHERE disabled IS NOT NULL
), handed_off AS (
    SELECT pg_notify('{HAND_OFF_CHANNEL}' || (SELECT number FROM engine), '[' || string_agg(job, ',') || ']')
    FROM (
        SELECT job, (row_number() OVER () - 1)
                    / ({NOTIFY_LIMIT} / ((SELECT max(octet_length(job)) FROM recipients) + 1)) AS part
        FROM recipients WHERE job IS NOT NULL
    ) parts
    GROUP BY part
), woken AS (
    SELECT pg_notify('{WAKE_CHANNEL}', '')
    WHERE EXISTS (SELECT FROM recipients WHERE at_once AND disabled IS NULL AND job IS NULL)
), to_decide AS (
    SELECT pg_notify('{TURNS_CHANNEL}', '') WHERE EXISTS (SELECT FROM recipients WHERE NOT at_once)
)
SELECT n, name, url, batch NOT IN (SELECT batch FROM refused) AS whole,
       id IN (SELECT incident_id FROM opened) AS new, now() AS now, (SELECT more FROM circumstances) AS more,
       (SELECT count(*) FROM handed_off) + (SELECT count(*) FROM woken) + (SELECT count(*) FROM to_decide) AS notified
FROM found
"""


async def open_batches(
    tx: Tx, batches: Sequence[Sequence[OpenRequest]], *, public_url: str, raising: bool = True
) -> list[list[Opened | ResourceNotFound | None]]:
    """Open incidents for several callers at once, and queue the notifications of them.

    Each batch is one caller's request: it opens all of its incidents, or none if one of its resources is missing
    (that one is answered with `ResourceNotFound`, its neighbours with None). One that is ongoing already (same
    resource, same type) is answered as it is, and raised to the severity of the request if that is worse and unless
    `raising` is off. Results are in the order of the requests.
    """
    left = [KeyedRequest(ids.new(), number, opening) for number, batch in enumerate(batches) for opening in batch]
    lasting: dict[IncidentKey, Opened] = {}
    missing: dict[int, set[UUID]] = {}
    while left:
        conflicts = []
        for number, row in enumerate(await _open(tx, left, public_url), 1):
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)
            requested = left[row["n"] - 1]
            if row["new"]:
                lasting[incidents.key_of(requested.opening)] = Opened(_begun(requested, row), new=True)
            elif row["name"] is None:
                missing.setdefault(requested.batch, set()).add(requested.opening.resource_id)
            elif row["whole"]:
                conflicts.append(requested)
        wanted = {incidents.key_of(requested.opening) for requested in conflicts} - lasting.keys()
        if wanted:
            found = await incidents.ongoing(tx, wanted)
            if raising:
                found |= await severities.raise_(tx, found, _worst(requested.opening for requested in conflicts))
            lasting |= {incident_key: Opened(incident, new=False) for incident_key, incident in found.items()}
        # What another transaction has resolved in between is opened after all.
        left = [requested for requested in conflicts if incidents.key_of(requested.opening) not in lasting]
    return [
        [ResourceNotFound() if opening.resource_id in missing[number] else None for opening in batch]
        if number in missing
        else [_answer(lasting, incidents.key_of(opening)) for opening in batch]
        for number, batch in enumerate(batches)
    ]


async def open(
    tx: Tx, openings: Sequence[OpenRequest], *, public_url: str, raising: bool = True
) -> list[Opened | ResourceNotFound]:
    """Open each incident separately: a missing resource affects no other."""
    batches = await open_batches(
        tx, [[opening] for opening in openings], public_url=public_url, raising=raising
    )
    return [answer for batch in batches for answer in batch if answer is not None]


async def _open(tx: Tx, requested: Sequence[KeyedRequest], public_url: str) -> list[Record]:
    """Look at no more than there was to know the last time; at everything if that was too little."""
    types, columns = frozenset(each.opening.resource_type for each in requested), _columns(requested, public_url)
    rows: list[Record] = await tx.fetch(statement(types, _last.known), *columns)
    if rows[0]["more"] and _last.known is NOTHING:
        rows = await tx.fetch(statement(types, EVERYTHING), *columns)
    _last.known = EVERYTHING if rows[0]["more"] else NOTHING
    return rows


class _Last:
    """What the last opening of this process had to look at. Only a guess, which each statement checks itself."""

    known = NOTHING


_last = _Last()


@lru_cache(64)
def statement(types: frozenset[str], known: Known) -> str:
    """`OPEN` for resources of these types: what is not looked at costs nothing, and half of a plan is setting it up."""
    return OPEN.format(
        known=known,
        enough="true" if known is EVERYTHING else "NOT (SELECT more FROM circumstances)",
        resources=" UNION ALL ".join(
            RESOURCE.format(name=each.name, url=each.url or "NULL", table=each.table, type=each.type)
            for each in resources.kinds().values() if each.type in types
        ),
    )  # fmt: skip


def _worst(openings: Iterable[OpenRequest]) -> dict[IncidentKey, Severity]:
    """The worst severity that is asked for."""
    milder_first = sorted(openings, key=lambda each: SEVERITIES.index(each.severity), reverse=True)
    return {incidents.key_of(each): each.severity for each in milder_first}


def _answer(lasting: dict[IncidentKey, Opened], incident_key: IncidentKey) -> Opened:
    """What is ongoing; it is new only to the first that requested it."""
    answer = lasting[incident_key]
    if answer.new:
        lasting[incident_key] = Opened(answer.incident, new=False)
    return answer


def _columns(requested: Sequence[KeyedRequest], public_url: str) -> list[Any]:
    kinds, rows = resources.kinds(), []
    for each in requested:
        opening = each.opening
        kind = kinds[opening.resource_type]
        page = opening.url or (public_url + kind.page(opening.resource_id) if kind.url is None else None)
        rows.append((
            each.id, each.batch, opening.project_id, opening.resource_type, opening.resource_id, page, opening.type,
            opening.message, opening.evidence, opening.severity, opening.dedup_key, opening.details,
        ))  # fmt: skip
    return [*columns(rows), requests.written([each.opening.origin for each in requested])]


def _begun(requested: KeyedRequest, row: Record) -> Incident:
    opening, now = requested.opening, row["now"]
    seen = opening.evidence or NO_EVIDENCE
    return Incident(
        id=requested.id,
        project_id=opening.project_id,
        resource_type=opening.resource_type,
        resource_id=opening.resource_id,
        resource_name=row["name"],
        resource_url=row["url"],
        type=opening.type,
        message=opening.message,
        created_at=now,
        updated_at=now,
        severity=opening.severity,
        dedup_key=opening.dedup_key,
        origin=opening.origin,
        request=seen.request,
        request_headers=seen.request_headers,
        response=seen.response,
        response_headers=seen.response_headers,
    )
