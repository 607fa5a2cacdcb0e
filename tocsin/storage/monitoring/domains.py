"""Domains whose registration monitors watch: when each is asked about, what was answered, and what follows from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from tocsin.domain import monitors as rules
from tocsin.domain import registrations
from tocsin.domain.incidents import ResolveRequest
from tocsin.domain.monitors import DOMAIN_EXPIRY
from tocsin.domain.registrations import Registration
from tocsin.storage.delivery import behind, incidents, openings
from tocsin.storage.monitoring import findings
from tocsin.storage.postgres.database import Tx, key

LEASE = timedelta(minutes=5)
"""After which a domain is due again whose answer was never recorded."""
JUDGED_EVERY = timedelta(hours=1)
AT_ONCE = 250
"""Monitors of one domain that are judged in one transaction."""

# One that was paused for long, or never asked about, is due; one that is held back by its registry stays so, because
# that is looked at before it is asked.
WATCH = """
INSERT INTO domains (name) VALUES ($1) ON CONFLICT (name) DO UPDATE
SET judge_at = now(),
    ask_at = CASE WHEN domains.asked_at > now() - interval '30 hours' THEN domains.ask_at ELSE now() END
"""

ONE = "SELECT name, expires_at, asked_at, registrar, problem FROM domains WHERE name = $1"

CLAIM = f"""
WITH due AS MATERIALIZED (
    SELECT name, EXISTS (SELECT FROM network_monitors m WHERE m.domain = d.name AND NOT m.paused) AS watched
    FROM domains d WHERE ask_at <= now() ORDER BY ask_at LIMIT $1 FOR UPDATE SKIP LOCKED
), moved AS (
    UPDATE domains d
    SET ask_at = now() + CASE WHEN due.watched THEN interval '{LEASE.seconds} s' ELSE interval '1 day' END
    FROM due WHERE d.name = due.name
)
SELECT name FROM due WHERE watched
"""

# What is not known stays as it was; `known` says that the registry has answered.
RECORD = """
UPDATE domains
SET asked_at = CASE WHEN $6 THEN now() ELSE asked_at END, ask_at = now() + $5, judge_at = now(), problem = $4,
    expires_at = CASE WHEN $7 THEN $2 ELSE expires_at END, registrar = CASE WHEN $7 THEN $3 ELSE registrar END
WHERE name = $1
"""

SERVICES = "SELECT services, fetch_at <= now() AS old FROM rdap_services"
KEEP_SERVICES = """
INSERT INTO rdap_services (fetch_at, services) VALUES (now() + $1, coalesce($2::jsonb, '{}')) ON CONFLICT (single)
DO UPDATE SET fetch_at = excluded.fetch_at, services = coalesce($2::jsonb, rdap_services.services)
"""

PAUSE = """
INSERT INTO rdap_pauses (service, until) VALUES ($1, now() + $2)
ON CONFLICT (service) DO UPDATE SET until = greatest(rdap_pauses.until, excluded.until)
"""
PAUSED = "SELECT service, until - now() AS left FROM rdap_pauses WHERE service = ANY ($1) AND until > now()"

DUE_TO_JUDGE = f"""
WITH due AS (SELECT name FROM domains WHERE judge_at <= now() ORDER BY judge_at LIMIT $1 FOR UPDATE SKIP LOCKED)
UPDATE domains d SET judge_at = now() + interval '{LEASE.seconds} s' FROM due WHERE d.name = due.name
RETURNING d.name, d.expires_at, d.asked_at, d.registrar, d.problem
"""
MONITORS = """
SELECT id, project_id, (options->>'domain_days')::int AS days FROM network_monitors
WHERE domain = $1 AND NOT paused AND id > $2 ORDER BY id LIMIT $3
"""
JUDGED = f"""
UPDATE domains SET judge_at = greatest(
    now() + interval '{JUDGED_EVERY.seconds} s',
    coalesce(expires_at - interval '{registrations.MAX_DAYS + 1} days', 'infinity')
) WHERE name = $1 AND expires_at IS NOT DISTINCT FROM $2 AND judge_at > now()
"""

FORGET = """
DELETE FROM domains d WHERE NOT EXISTS (SELECT FROM network_monitors m WHERE m.domain = d.name)
"""
MISSING = """
INSERT INTO domains (name) SELECT DISTINCT domain FROM network_monitors WHERE domain IS NOT NULL ON CONFLICT DO NOTHING
"""
FORGET_PAUSES = "DELETE FROM rdap_pauses WHERE until <= now()"


@dataclass(frozen=True, slots=True)
class Recorded:
    """What came of asking about a domain, or of not asking.

    `answered`: its registry said all that it knows of it, else what was known stays. It is asked again `again` later.
    """

    name: str
    again: timedelta
    expires_at: datetime | None = None
    registrar: str | None = None
    problem: str | None = None
    asked: bool = True
    answered: bool = False


@dataclass(frozen=True, slots=True)
class Services:
    """RDAP services by suffix, as they were fetched last; `old` if they are to be fetched."""

    by_suffix: Mapping[str, str]
    old: bool


async def watch(tx: Tx, name: str) -> None:
    """A monitor watches that domain: what is known of it is judged at once, and asked for if it is old."""
    await tx.execute(WATCH, name)


async def unwatch(tx: Tx, project_id: UUID, monitor_id: UUID) -> None:
    """A monitor does not watch its domain any more: what was opened for it ends."""
    lasting = (await findings.ongoing(tx, [monitor_id], [DOMAIN_EXPIRY]))[monitor_id]
    why = "The domain is not watched any more"
    await incidents.resolve(
        tx, [ResolveRequest(project_id, monitor_id, type_, why, dedup_key=which) for type_, which in lasting]
    )


async def one(tx: Tx, name: str) -> Registration:
    """What is known of a domain."""
    row = await tx.fetchrow(ONE, name)
    return Registration(name) if row is None else Registration(*row)


async def claim(tx: Tx, limit: int) -> list[str]:
    """Domains to ask about, longest due first. Nobody else gets them; those of paused monitors have time."""
    return [row["name"] for row in await tx.fetch(CLAIM, limit)]


async def record(tx: Tx, found: Sequence[Recorded]) -> None:
    """Store what came of asking."""
    for each in found:
        await tx.execute(
            RECORD, each.name, each.expires_at, each.registrar, each.problem, each.again, each.asked, each.answered
        )


async def services(tx: Tx) -> Services:
    row = await tx.fetchrow(SERVICES)
    return Services({}, True) if row is None else Services(row["services"], row["old"])


async def keep_services(tx: Tx, by_suffix: Mapping[str, str] | None, fetch_again: timedelta) -> None:
    """Keep these, or those that there are, and fetch them again that much later."""
    await tx.execute(KEEP_SERVICES, fetch_again, by_suffix)


async def pause(tx: Tx, service: str, length: timedelta) -> None:
    """Ask nothing of a service for so long."""
    await tx.execute(PAUSE, service, length)


async def paused(tx: Tx, services: Sequence[str]) -> dict[str, timedelta]:
    """Those of them that are not to be asked, and for how long."""
    return {row["service"]: row["left"] for row in await tx.fetch(PAUSED, services)}


async def due_to_judge(tx: Tx, limit: int) -> list[Registration]:
    """Domains whose monitors are to be judged by what is known. `judge` them, then call `judged`."""
    return [Registration(*row) for row in await tx.fetch(DUE_TO_JUDGE, limit)]


async def judge(tx: Tx, known: Registration, after: UUID, now: datetime, *, public_url: str) -> UUID | None:
    """Open and end what follows for up to `AT_ONCE` monitors with keys above `after`.

    Returns the last one's key, None after the last of all.
    """
    watching = await tx.fetch(MONITORS, known.name, after, AT_ONCE)
    ids = [key(row["id"]) for row in watching]
    if not ids:
        return None
    await behind.hold(tx, ids)
    ongoing = await findings.ongoing(tx, ids, [DOMAIN_EXPIRY])
    opened, ended = [], []
    until = f"{known.expires_at:%Y-%m-%d}" if known.expires_at else "at a time that its registry does not say"
    for row in watching:
        monitor_id, project_id = key(row["id"]), key(row["project_id"])
        finding = registrations.judge(known, now, row["days"] or 0)
        worse, gone = rules.judge_findings([finding] if finding else [], ongoing[monitor_id])
        opened += [findings.opening(project_id, monitor_id, each) for each in worse]
        why = f"The registration of {known.name} ends {until}"
        ended += [ResolveRequest(project_id, monitor_id, type_, why, dedup_key=which) for type_, which in gone]
    if ended:
        await incidents.resolve(tx, ended)
    if opened:
        await openings.open(tx, opened, public_url=public_url)
    return ids[-1]


async def judged(tx: Tx, known: Registration) -> None:
    """The monitors of a domain are judged, unless something newer has become known meanwhile."""
    await tx.execute(JUDGED, known.name, known.expires_at)


async def tidy(tx: Tx) -> None:
    """Forget what no monitor watches, and pauses that are over."""
    await tx.execute(FORGET)
    await tx.execute(MISSING)
    await tx.execute(FORGET_PAUSES)
