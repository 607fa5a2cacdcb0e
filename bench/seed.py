"""Fills a Tocsin's database with years of use, straight into its tables: `python -m bench.seed --help`."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import asyncpg
import click

from tocsin import settings as configuration
from tocsin.domain import ids
from tocsin.storage.accounts import accounts, sessions
from tocsin.storage.postgres import database, embedded, retention
from tocsin.storage.postgres.secrets import Vault

OTHER_PROJECTS = 1_000
OWN_SHARE = 10
"""One in so many of everything belongs to the project that is measured."""

DAYS = 300
"""How far back the history goes."""

# A key as the service would have made it at that time (domain/ids.py).
KEY_AT = """
CREATE FUNCTION pg_temp.key_at(at timestamptz) RETURNS uuid LANGUAGE sql VOLATILE AS $$
SELECT encode(set_bit(set_bit(
    overlay(uuid_send(gen_random_uuid())
            PLACING substring(int8send((extract(epoch FROM at) * 1000)::bigint) FROM 3) FROM 1 FOR 6),
    52, 1), 53, 1), 'hex')::uuid $$
"""

PROJECTS = """
CREATE TEMPORARY TABLE seeded_projects AS
SELECT n, new_id() AS id FROM generate_series(1, $1::int) AS n
"""
STORE_PROJECTS = """
INSERT INTO projects (id, name, plan, token_hash, token_sealed)
SELECT id, 'seeded ' || n, 'free', sha256(uuid_send(id)), '' FROM seeded_projects
"""

INTEGRATIONS = f"""
CREATE TEMPORARY TABLE seeded_integrations AS
SELECT g.n, pg_temp.key_at(now() - interval '{DAYS} days') AS id,
       CASE WHEN g.n % $3::int = 0 THEN $2::uuid ELSE p.id END AS project_id,
       pg_temp.key_at(now() - interval '{DAYS} days') AS server_id
FROM generate_series(0, $1::int - 1) AS g (n) JOIN seeded_projects p ON p.n = g.n % $4::int + 1
"""
STORE_INTEGRATIONS = """
INSERT INTO integrations (id, project_id, type, settings, for_people, repeatable)
SELECT id, project_id, 'Integrations::WebhookIntegration',
       jsonb_build_object('webhook_url', 'https://hooks.example.com/' || n), false, true
FROM seeded_integrations
"""
STORE_SERVERS_OF_INTEGRATIONS = """
INSERT INTO servers (id, project_id, motherboard_id, hostname, agent_version, alerts)
SELECT server_id, project_id, 'seeded-' || n, 'seeded-' || n || '.example.com', '1.2.3', $1::jsonb
FROM seeded_integrations
"""
STORE_ATTACHMENTS = (
    "INSERT INTO attachments (resource_id, integration_id) SELECT server_id, id FROM seeded_integrations"
)

# Two deliveries an incident, spread over the days.
INCIDENTS = f"""
CREATE TEMPORARY TABLE seeded_incidents AS
SELECT n, at, pg_temp.key_at(at) AS id
FROM (SELECT n, now() - interval '2 days' - n * interval '{DAYS - 2} days' / $1::int AS at
      FROM generate_series(1, $1::int) AS n) AS past
"""
STORE_INCIDENTS = """
INSERT INTO incidents (id, project_id, resource_type, resource_id, resource_name, resource_url, type, message,
                       created_at, closed_at, resolved_by, updated_at)
SELECT o.id, i.project_id, 'Server', i.server_id, 'seeded-' || i.n || '.example.com', 'https://tocsin.example.com/',
       'cpu', 'CPU is at 97 %', o.at, o.at + interval '10 min', 'recovery', o.at + interval '10 min'
FROM seeded_incidents o JOIN seeded_integrations i ON i.n = o.n % $1::int
"""
STORE_FINISHED = """
INSERT INTO finished (id, project_id, integration_id, integration_type, incident_id, event, status, attempt, attempts,
                      created_at, finished_at)
SELECT pg_temp.key_at(o.at + wait), i.project_id, i.id, 'Integrations::WebhookIntegration', o.id, event, 'delivered', 1,
       jsonb_build_array(jsonb_build_object('number', 1, 'outcome', 'delivered', 'status_code', 200, 'duration_ms', 12,
                                            'started_at', o.at + wait)),
       o.at + wait, o.at + wait + interval '15 ms'
FROM seeded_incidents o
JOIN seeded_integrations i ON i.n = o.n % $1::int
CROSS JOIN (VALUES ('opened', interval '0'), ('resolved', interval '10 min')) AS told (event, wait)
"""

# As the reports of `bench.instance.report(n)` have made them, so that the next one changes nothing about the server.
# None of them can fall silent: that is not what is measured.
SERVERS = """
INSERT INTO servers (id, project_id, motherboard_id, hostname, public_ip, private_ip, mac_address, cpu_cores, cpu_model,
                     operating_system, kernel_version, disk_total_bytes, memory_total_bytes, agent_version, alerts)
SELECT new_id(), $1, 'board-' || n, 'server-' || n || '.example.com', s.public_ip, s.private_ip, s.mac_address,
       s.cpu_cores, s.cpu_model, s.operating_system, s.kernel_version, s.disk_total_bytes, s.memory_total_bytes,
       s.agent_version, $3::jsonb
FROM generate_series(0, $2::int - 1) AS n
CROSS JOIN (SELECT * FROM servers WHERE project_id = $1 AND motherboard_id = 'board-0') AS s
ON CONFLICT DO NOTHING
"""
STATES = """
INSERT INTO server_states (server_id, seen_at, downtime_check_at)
SELECT id, now(), 'infinity' FROM servers
ON CONFLICT DO NOTHING
"""

# What the pages of a server and of a monitor draw: 30 days of those that stand first in their lists.
MONITORS = """
INSERT INTO network_monitors (id, project_id, number, name, url, check_type, interval, timeout, confirmations)
SELECT new_id(), $1, n, 'site-' || n, 'https://site-' || n || '.example.com/', 'http', 60, 10, 2
FROM generate_series(1, $2::int) AS n
"""
MONITOR_STATES = """
INSERT INTO monitor_states (monitor_id, due_at, last_check_at, last_ok, last_response_ms)
SELECT id, now() + interval '10 days', now(), true, 87 FROM network_monitors
"""
SAMPLES = """
INSERT INTO samples (server_id, at, cpu_used, mem_used_b, disk_used_b, net_sent_b, net_recv_b)
SELECT s.id, at, 30 + 20 * sin(extract(epoch FROM at) / 5000), 4e9, 1e11, extract(epoch FROM at), extract(epoch FROM at)
FROM (SELECT id FROM servers WHERE project_id = $1 ORDER BY hostname LIMIT 5) s
CROSS JOIN generate_series(now() - interval '30 days', now(), interval '1 minute') AS at
ON CONFLICT DO NOTHING
"""
CHECKS = """
INSERT INTO checks (monitor_id, at, ok, status_code, response_ms)
SELECT m.id, at, true, 200, 80 + 20 * sin(extract(epoch FROM at) / 5000)
FROM (SELECT id FROM network_monitors WHERE project_id = $1 ORDER BY number DESC LIMIT 30) m
CROSS JOIN generate_series(now() - interval '1 day', now(), interval '1 minute') AS at
"""
HOURS_OF_CHECKS = """
INSERT INTO checks_hourly (monitor_id, at, total, ok, response_ms)
SELECT m.id, at, 60, 60, 80 + 20 * sin(extract(epoch FROM at) / 5000)
FROM (SELECT id FROM network_monitors WHERE project_id = $1 ORDER BY number DESC LIMIT 30) m
CROSS JOIN (SELECT date_trunc('hour', now()) - hours * interval '1 hour' AS at
            FROM generate_series(1, 720) AS hours) AS past
ON CONFLICT DO NOTHING
"""

# What the map of places and monitors shows: so many monitors from five places, one in ten of which disagree.
LOCATIONS = """
UPDATE network_monitors SET locations = '{here,graz,oslo,porto,wien}'
WHERE project_id = $1 AND number <= $2
"""
PLACES = """
INSERT INTO monitor_places (monitor_id, place, version, change, round, at, heard_at, successes, problem, response_ms)
SELECT m.id, place, m.updated_at, nextval('place_changes'), 1, now(), now() + interval '1 hour', 1,
       CASE WHEN m.number % 10 = 0 AND place = 'graz' THEN 'timeout' END, 87
FROM network_monitors m CROSS JOIN unnest(m.locations) AS place WHERE m.project_id = $1 AND m.number <= $2
"""
WATCHED_FROM_PLACES = 1_000

# What the first page has to say much about.
TROUBLE = """
WITH troubled AS (
    SELECT new_id() AS incident_id, id, hostname, row_number() OVER (ORDER BY hostname) AS n
    FROM servers WHERE project_id = $1 ORDER BY hostname LIMIT $2
), stored AS (
    INSERT INTO incidents (id, project_id, resource_type, resource_id, resource_name, resource_url, type, message,
                           severity, created_at, updated_at)
    SELECT incident_id, $1, 'Server', id, hostname, 'https://tocsin.example.com/', 'cpu', 'CPU is at 97 %',
           (ARRAY['critical', 'warning', 'info'])[1 + n % 3], now(), now()
    FROM troubled
), ongoing_now AS (
    INSERT INTO ongoing (resource_id, type, incident_id, project_id, severity, recipients)
    SELECT id, 'cpu', incident_id, $1, (ARRAY['critical', 'warning', 'info'])[1 + n % 3], '{}' FROM troubled
)
INSERT INTO finished (id, project_id, integration_id, integration_type, incident_id, event, status, attempt, attempts,
                      created_at, finished_at)
SELECT new_id(), $1, i.id, i.type, t.incident_id, 'opened', 'dead', 1, '[]', now(), now()
FROM troubled t JOIN (
    SELECT *, row_number() OVER (ORDER BY id) AS n FROM integrations WHERE project_id = $1
) i ON i.n = 1 + t.n % 20
"""
SILENCES = """
WITH made AS (
    INSERT INTO silences (id, project_id, name, starts_at, ends_at, expanded_until, integrations)
    SELECT new_id(), $1, 'seeded ' || n, now(), now() + interval '1 day', now() + interval '30 days', '{}'
    FROM generate_series(1, $2::int) AS n
    RETURNING *
)
INSERT INTO silence_spans (silence_id, project_id, span, everything)
SELECT id, project_id, tstzrange(starts_at, ends_at), true FROM made
"""

ALERTS = "SELECT (alerts || '{\"downtime\": null}')::text FROM servers LIMIT 1"


def history(
    folder: Path, project: str, deliveries: int, integrations: int, own_share: int = OWN_SHARE
) -> None:
    """Old, finished deliveries with their incidents, and integrations, each attached to a server of its own.

    One in `own_share` belongs to the project, the others to a thousand other ones.
    """
    asyncio.run(_history(folder, _key(project), deliveries, integrations, own_share))


def readings(folder: Path, project: str, monitors: int) -> None:
    """Monitors, none of them due soon, and 30 days of what the first few of servers and monitors were like."""
    asyncio.run(_readings(folder, _key(project), monitors))


def trouble(folder: Path, project: str, count: int) -> None:
    """So many servers with an incident that lasts and could not be told of, and as many silences that last."""
    asyncio.run(_trouble(folder, _key(project), count))


def signed_in(folder: Path, project: str) -> str:
    """The cookie of somebody who owns the project."""
    return asyncio.run(_signed_in(folder, _key(project)))


def servers(folder: Path, project: str, count: int) -> None:
    """Servers `board-0` to `board-<count - 1>` of the project, as far as it does not have them; `board-0` it must."""
    asyncio.run(_servers(folder, _key(project), count))


async def _history(folder: Path, project: UUID, deliveries: int, integrations: int, own_share: int) -> None:
    connection = await asyncpg.connect(embedded.dsn_of(folder))
    try:
        alerts = await connection.fetchval(ALERTS) or "{}"
        async with connection.transaction():
            await _make_partitions(connection)
            await connection.execute(KEY_AT)
            for statement, values in (
                (PROJECTS, (OTHER_PROJECTS,)),
                (STORE_PROJECTS, ()),
                (INTEGRATIONS, (integrations, project, own_share, OTHER_PROJECTS)),
                (STORE_INTEGRATIONS, ()),
                (STORE_SERVERS_OF_INTEGRATIONS, (alerts,)),
                (STORE_ATTACHMENTS, ()),
                (INCIDENTS, (deliveries // 2,)),
                (STORE_INCIDENTS, (integrations,)),
                (STORE_FINISHED, (integrations,)),
                (STATES, ()),
            ):
                await connection.execute(statement, *values, timeout=600)
        await _settle(connection)
    finally:
        await connection.close()


async def _servers(folder: Path, project: UUID, count: int) -> None:
    connection = await asyncpg.connect(embedded.dsn_of(folder))
    try:
        alerts = await connection.fetchval(ALERTS) or "{}"
        async with connection.transaction():
            await connection.execute(SERVERS, project, count, alerts, timeout=600)
            await connection.execute(STATES, timeout=600)
        await _settle(connection)
    finally:
        await connection.close()


async def _readings(folder: Path, project: UUID, monitors: int) -> None:
    connection = await asyncpg.connect(embedded.dsn_of(folder))
    try:
        async with connection.transaction():
            await connection.execute(MONITORS, project, monitors)
            await connection.execute(MONITOR_STATES)
            for statement in (SAMPLES, CHECKS, HOURS_OF_CHECKS):
                await connection.execute(statement, project, timeout=600)
            for statement in (LOCATIONS, PLACES):
                await connection.execute(statement, project, WATCHED_FROM_PLACES)
        await _settle(connection)
    finally:
        await connection.close()


async def _trouble(folder: Path, project: UUID, count: int) -> None:
    connection = await asyncpg.connect(embedded.dsn_of(folder))
    try:
        async with connection.transaction():
            for statement in (TROUBLE, SILENCES):
                await connection.execute(statement, project, count)
        await _settle(connection)
    finally:
        await connection.close()


async def _signed_in(folder: Path, project: UUID) -> str:
    vault = Vault(configuration.load(folder, environ={}).secret_keys)
    pool = await database.pool(embedded.dsn_of(folder), size=1, name="bench")
    try:
        async with pool.acquire() as tx, tx.transaction():
            user = await accounts.ensure_user(tx, "ann@example.com")
            await tx.execute(accounts.INSERT_MEMBER, project, user.id, "owner")
            await accounts.switch(tx, user.id, project)
            return str(await sessions.begin(tx, vault, user, "Chromium on Linux"))
    finally:
        await pool.close()


async def _make_partitions(connection: asyncpg.Connection) -> None:
    """The partitions that an installation of that age has, beside those that ours has made already."""
    now = datetime.now(UTC)
    for split, days in (
        (retention.INCIDENTS, DAYS), (retention.FINISHED, DAYS), (retention.SAMPLES_HOURLY, DAYS),
        (retention.CHECKS_HOURLY, DAYS), (retention.SAMPLES, 30), (retention.CHECKS, 30),
    ):  # fmt: skip
        start = split.start_of(now - timedelta(days=days))
        while start < now:
            bounds = f"FROM ({split.bound(start)}) TO ({split.bound(split.next(start))})"
            table = split.partition(start)
            await connection.execute(
                f"CREATE TABLE IF NOT EXISTS {table} PARTITION OF {split.table} FOR VALUES {bounds}"
            )
            start = split.next(start)


async def _settle(connection: asyncpg.Connection) -> None:
    """What autovacuum and the checkpointer would do some time later, in the middle of a measurement."""
    await connection.execute("VACUUM (ANALYZE)", timeout=600)
    await connection.execute("CHECKPOINT", timeout=600)


def _key(project: str) -> UUID:
    found = ids.parse(ids.PROJECT, project)
    if found is None:
        raise ValueError(f"{project!r} is not the uuid of a project")
    return found


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("project")
@click.option("--deliveries", default=1_000_000, show_default=True)
@click.option("--integrations", default=100_000, show_default=True)
@click.option("--servers", "server_count", default=0, show_default=True)
def main(folder: Path, project: str, deliveries: int, integrations: int, server_count: int) -> None:
    """Seed the database in the data FOLDER of a running Tocsin for the PROJECT with that uuid (PRJ…)."""
    if server_count:
        servers(folder, project, server_count)
    if deliveries:
        history(folder, project, deliveries, integrations)


if __name__ == "__main__":
    main()
