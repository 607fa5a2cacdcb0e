"""`tocsin secrets rotate`: from an older key to the newest, beside a service that works."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.postgres import Postgres
from tests.processes import tocsin
from tests.receivers import Receiver
from tests.service import KEY, new_project, service_on
from tocsin.settings import load
from tocsin.storage import audit
from tocsin.storage.accounts import accounts, rotation
from tocsin.storage.channels import integrations
from tocsin.storage.channels.integrations import Facts
from tocsin.storage.postgres.secrets import Vault

NEW_KEY = urlsafe_b64encode(b"n" * 32).decode()
WEBHOOK = "Integrations::WebhookIntegration"


@pytest.fixture
def both(environ: dict[str, str]) -> Vault:
    """Knows the key of before, and seals with a newer one."""
    return Vault(load(environ={**environ, "TOCSIN_SECRET_KEYS": f"{NEW_KEY},{KEY}"}).secret_keys)


@pytest.fixture
def newest(environ: dict[str, str]) -> Vault:
    return Vault(load(environ={**environ, "TOCSIN_SECRET_KEYS": NEW_KEY}).secret_keys)


async def _integration(pool: asyncpg.Pool, vault: Vault, project: Any, secret: str) -> Any:
    async with pool.acquire() as tx, tx.transaction():
        return await integrations.create(
            tx, vault, project.id, WEBHOOK, Facts(False, True), name=None,
            settings={"webhook_url": "https://example.com", "secret": secret}, secret={"secret"},
        )  # fmt: skip


async def test_after_a_rotation_the_newest_key_alone_opens_everything(
    pool: asyncpg.Pool, vault: Vault, project: Any, both: Vault, newest: Vault
) -> None:
    made = [await _integration(pool, vault, project, f"secret {number}") for number in range(3)]
    other = await new_project(pool, vault)
    async with pool.acquire() as tx:
        done = await rotation.rotate(tx, both)
        assert (done.renewed, done.failed) == (5, {})
        for number, each in enumerate(made):
            found = await integrations.one(tx, newest, project.id, each.id)
            assert found is not None
            assert found.settings["secret"] == f"secret {number}"
        for each in (project, other):
            found_by_token = await accounts.caller_of_token(tx, newest, each.api_token)
            assert found_by_token is not None
            assert found_by_token.project_id == each.id
        assert (await rotation.rotate(tx, both)).renewed == 0


async def test_what_cannot_be_opened_is_named_and_left_as_it_is(
    pool: asyncpg.Pool, vault: Vault, project: Any, both: Vault
) -> None:
    stranger = Vault([b"?" * 32])
    lost = await _integration(pool, stranger, project, "lost")
    async with pool.acquire() as tx:
        before = await tx.fetchval("SELECT sealed FROM integrations WHERE id = $1", lost.id)
        done = await rotation.rotate(tx, both)
        assert list(done.failed) == [f"integrations {lost.id}"]
        assert "TOCSIN_SECRET_KEYS lacks" in done.failed[f"integrations {lost.id}"]
        assert await tx.fetchval("SELECT sealed FROM integrations WHERE id = $1", lost.id) == before
        assert done.renewed == 1


async def test_no_sealed_column_is_forgotten(pool: asyncpg.Pool) -> None:
    async with pool.acquire() as tx:
        rows = await tx.fetch(
            "SELECT table_name, column_name FROM information_schema.columns "
            "WHERE table_schema = 'public' AND column_name LIKE '%sealed%'"
        )
    assert {(row["table_name"], row["column_name"]) for row in rows} == {
        (place.table, place.column) for place in rotation.SEALED
    }


async def test_secrets_are_rotated_while_the_service_runs(
    postgres: Postgres, tmp_path: Path, receiver: Receiver
) -> None:
    database = await postgres.clone()
    own = service_on(database, tmp_path, TOCSIN_SECRET_KEYS=KEY)
    own.start()
    try:
        own.project = await own.new_project()
        webhook = {"type": WEBHOOK, "settings": {"webhook_url": receiver.url()}}
        async with own.client() as client:
            made = (await client.post("/api/v1/integrations", json={"integration": webhook})).json()

        keys = {**own.environ, "TOCSIN_SECRET_KEYS": f"{NEW_KEY},{KEY}"}
        early = await tocsin("secrets", "rotate", environ=keys)
        assert early.code == 1
        assert "restart the service" in early.err

        own.stop()
        for process in (own.api, own.engine):
            process.environ["TOCSIN_SECRET_KEYS"] = keys["TOCSIN_SECRET_KEYS"]
        own.start()
        ran = await tocsin("secrets", "rotate", environ=keys)
        assert ran.code == 0, ran.err
        assert ran.out.startswith("2 secrets were re-encrypted")

        own.stop()
        for process in (own.api, own.engine):
            process.environ["TOCSIN_SECRET_KEYS"] = NEW_KEY
        own.start()
        async with own.client() as client:
            assert (await client.post(f"/api/v1/integrations/{made['uuid']}/test")).status_code == 202
        await receiver.arrivals(1)
        connection = await asyncpg.connect(database)
        try:
            assert await connection.fetchval("SELECT count(*) FROM audit WHERE who = $1", audit.OPERATOR) == 1
        finally:
            await connection.close()
    finally:
        own.stop()
        await postgres.drop(database)
