"""Who changed what and when."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import asyncpg
import httpx

from tocsin.domain import ids
from tocsin.storage import audit
from tocsin.storage.accounts import accounts
from tocsin.storage.postgres import retention
from tocsin.storage.postgres.secrets import Vault
from tocsin.web.pages import audit as record


async def test_the_record_names_the_user_by_address_and_the_project_s_own_token_as_such(
    pool: asyncpg.Pool, project: Any
) -> None:
    async with pool.acquire() as tx, tx.transaction():
        user = await accounts.ensure_user(tx, "ann@example.com")
        await audit.note(tx, project.id, audit.API_TOKEN, "made integration", "alerts@example.com")
        await audit.note(tx, project.id, user.id, "changed integration", "alerts", {"fields": ["email"]})
        found, total = await audit.list_(tx, project.id, limit=10)
    assert [(entry.who, entry.action, entry.subject, entry.details) for entry in found] == [
        ("ann@example.com", "changed integration", "alerts", {"fields": ["email"]}),
        ("API token", "made integration", "alerts@example.com", {}),
    ]
    assert total == 2


async def test_a_project_reads_nothing_of_another_s_record(pool: asyncpg.Pool, project: Any, vault: Vault) -> None:
    async with pool.acquire() as tx, tx.transaction():
        other = await accounts.create_project(tx, vault, "Other", "free")
        await audit.note(tx, other.id, audit.API_TOKEN, "made integration", "theirs")
        await audit.note(tx, None, audit.OPERATOR, "rotated secrets", "installation")
        assert await audit.list_(tx, project.id, limit=10) == ([], 0)
        assert [entry.subject for entry in (await audit.list_(tx, None, limit=10))[0]] == ["installation"]


async def test_a_change_that_is_undone_leaves_no_note(pool: asyncpg.Pool, project: Any) -> None:
    async with pool.acquire() as tx:
        undone = tx.transaction()
        await undone.start()
        await audit.note(tx, project.id, audit.API_TOKEN, "made integration", "nothing")
        await undone.rollback()
        assert (await audit.list_(tx, project.id, limit=10))[1] == 0


async def test_the_record_is_kept_as_long_as_incidents_are(pool: asyncpg.Pool, project: Any) -> None:
    async with pool.acquire() as tx:
        for subject, age in (("old", 401), ("recent", 399)):
            await audit.note(tx, project.id, audit.API_TOKEN, "made integration", subject)
            await tx.execute(
                "UPDATE audit SET at = now() - $2 * interval '1 day' WHERE subject = $1", subject, float(age)
            )
    await retention.drop_old(pool, raw_days=30, days=400)
    async with pool.acquire() as tx:
        assert [entry.subject for entry in (await audit.list_(tx, project.id, limit=10))[0]] == ["recent"]


async def test_of_a_web_address_the_record_keeps_the_host_alone(pool: asyncpg.Pool, project: Any) -> None:
    async with pool.acquire() as tx:
        for subject in ("https://ann:sesame@example.com/services/T1/B1/k3y?token=abc", "timeout of https://example.com"):
            await audit.note(tx, project.id, audit.API_TOKEN, "changed", subject)
        found, _ = await audit.list_(tx, project.id, limit=10)
    assert [entry.subject for entry in found] == ["timeout of https://example.com", "https://example.com/…"]


def test_what_was_changed_is_said_in_words() -> None:
    alerts = {"ram": {"for": 0.0, "threshold": 90.0}, "disk": None, "downtime": {"after": 60}, "cpu": {"for": 30}}
    details = {"uuid": "SRV1", "alerts": alerts, "fields": ["name", "port"], "type": "Integrations::SmsIntegration"}
    entry = audit.Entry(ids.new(), "ann", "changed server", "web-1", details, datetime.now(UTC))
    assert record.more(entry) == (
        "ram: over 90 % for 0 s; disk: off; downtime: after 60 s; cpu: for 30 s; fields: name, port; type: SMS"
    )
    other = audit.Entry(ids.new(), "ann", "changed", "x", {"of": {"a": [1, None]}, "at": True}, datetime.now(UTC))
    assert record.more(other) == 'of: {"a":[1,null]}; at: true'


async def test_every_change_through_the_api_is_on_record(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool, project: Any
) -> None:
    webhook = {"type": "Integrations::WebhookIntegration", "settings": {"webhook_url": "https://example.com/s3cret"}}
    monitor = {"network_monitor": {"name": "Shop", "url": "https://example.com", "check_type": "http"}}
    made = (await app_client.post("/api/v1/integrations", json={"integration": webhook})).json()["uuid"]
    watched = (await app_client.post("/api/v1/network_monitors", json=monitor)).json()["uuid"]
    here, there = f"/api/v1/integrations/{made}", f"/api/v1/network_monitors/{watched}"
    opening = {"resource_type": "NetworkMonitor", "resource_uuid": watched, "incident_type": "timeout", "message": "x"}
    opened = (await app_client.post("/api/v1/incidents", json={"incident": opening})).json()["uuid"]
    wishes: list[tuple[str, str, Any]] = [
        ("PATCH", here, {"integration": {"name": "Pager"}}),
        ("POST", f"{here}/test", None),
        ("POST", f"{here}/rotate_secret", None),
        ("POST", f"{there}/integrations", {"integration_id": made}),
        ("POST", f"{there}/integrations", {"integration_id": made}),
        ("DELETE", f"{there}/integrations/{made}", None),
        ("POST", f"{here}/attach_all", None),
        ("POST", f"{here}/enable", None),
        ("PATCH", there, {"network_monitor": {"paused": False, "keyword": "welcome"}}),
        ("POST", f"/api/v1/incidents/{opened}/snooze", {"until": "2099-01-01T00:00:00Z"}),
        ("POST", f"/api/v1/incidents/{opened}/resolve", None),
        ("DELETE", here, None),
        ("DELETE", there, None),
    ]
    for method, path, body in wishes:
        answer = await app_client.request(method, path, json=body)
        assert answer.is_success, answer.text
    async with pool.acquire() as tx:
        found, _ = await audit.list_(tx, project.id, limit=100)
    assert [entry.action for entry in reversed(found)] == [
        "made integration", "made network monitor", "changed integration", "tested integration",
        "rotated the signing secret", "attached integration", "detached integration",
        "attached integration to everything", "enabled integration", "changed network monitor", "snoozed incident",
        "resolved incident", "deleted integration", "deleted network monitor",
    ]  # fmt: skip
    assert {entry.who for entry in found} == {"API token"}
    assert found[-3].details["fields"] == ["name"]
    assert "s3cret" not in repr(found)
