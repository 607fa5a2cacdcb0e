"""Whoever has not shown that their address is theirs sends nothing, and nobody sends mails without end."""

from __future__ import annotations

import uuid
from typing import Any

import asyncpg
import httpx
import pytest

from tests.people import ANN, BOB, PASSWORD, account, csrf, sign_in, site, visitor
from tests.receivers import Mailbox, Receiver
from tests.service import Service, new_project
from tests.users import bearer, outbox, register
from tests.waiting import until
from tocsin.actions import account_mail
from tocsin.actions.phone_codes import NOT_VERIFIED
from tocsin.domain.deliveries import Suppressed
from tocsin.settings import Settings
from tocsin.storage.accounts import accounts
from tocsin.storage.channels import integrations, mail_limits
from tocsin.storage.channels.integrations import Facts
from tocsin.storage.delivery import queue
from tocsin.storage.delivery.queue import Job
from tocsin.storage.postgres.secrets import Vault

__all__ = ["site"]

EMAIL = "Integrations::EmailIntegration"


async def try_out(
    client: httpx.AsyncClient, settings: dict[str, str], headers: dict[str, str], kind: str = EMAIL
) -> Any:
    """A test of a new integration, as it ended."""
    body = {"integration": {"type": kind, "settings": settings}}
    made = await client.post("/api/v1/integrations", json=body, headers=headers)
    assert made.status_code == 201, made.text
    return await tried_out(client, made.json()["uuid"], headers)


async def tried_out(client: httpx.AsyncClient, uuid: str, headers: dict[str, str]) -> Any:
    trial = (await client.post(f"/api/v1/integrations/{uuid}/test", headers=headers)).json()

    async def ended() -> Any:
        found = (await client.get(f"/api/v1/deliveries/{trial['uuid']}", headers=headers)).json()
        return found if found["finished_at"] else None

    return await until(ended, timeout=30, what="the end of the test")


async def newcomer(client: httpx.AsyncClient) -> tuple[str, dict[str, str]]:
    """Somebody's address who has registered and verified nothing, and what they call with."""
    address = f"{uuid.uuid4().hex}@example.com"
    assert (await register(client, email=address)).status_code == 201
    given = {"user": {"email": address, "password": PASSWORD}}
    return address, bearer((await client.post("/api/v1/users/sign_in", json=given)).json()["token"])


async def verify(service: Service, address: str) -> None:
    connection = await asyncpg.connect(service.database)
    try:
        await connection.execute("UPDATE users SET email_verified_at = now() WHERE email = $1", address)
    finally:
        await connection.close()


async def test_an_account_that_nobody_verified_sends_no_mail_and_a_verified_one_does(
    service: Service, client: httpx.AsyncClient, mailbox: Mailbox
) -> None:
    address, headers = await newcomer(client)
    victim = f"victim-{address}"
    [project] = (await client.get("/api/v1/projects", headers=headers)).json()
    for each in (headers, bearer(project["api_token"])):
        refused = await try_out(client, {"email": victim}, each)
        assert refused["status"] == "suppressed"
        assert "has not verified their mail address" in refused["reason"]
    await verify(service, address)
    assert (await try_out(client, {"email": victim}, headers))["status"] == "delivered"
    assert len(await mailbox.arrivals(to=victim)) == 1


async def test_an_account_that_nobody_verified_calls_no_site_and_no_machine_until_it_is_verified(
    service: Service, client: httpx.AsyncClient, receiver: Receiver
) -> None:
    address, headers = await newcomer(client)
    for kind, settings in (
        ("Integrations::WebhookIntegration", {"webhook_url": receiver.url("/hook")}),
        ("Integrations::SshServerRestartIntegration", {"ip": "127.0.0.1", "username": "ann", "password": "x"}),
    ):
        refused = await try_out(client, settings, headers, kind)
        assert refused["status"] == "suppressed"
        assert "until then nothing is sent" in refused["reason"]
    assert not receiver.to("/hook")
    [hook, _] = [
        each["uuid"]
        for each in (await client.get("/api/v1/integrations", headers=headers)).json()
        if each["type"] != EMAIL
    ]
    health = (await client.get(f"/api/v1/integrations/{hook}/health", headers=headers)).json()
    assert health["status"] == "failing"
    await verify(service, address)
    assert (await tried_out(client, hook, headers))["status"] == "delivered"


async def test_what_an_account_that_nobody_verified_watches_is_looked_at(
    service: Service, client: httpx.AsyncClient, receiver: Receiver
) -> None:
    _, headers = await newcomer(client)
    body = {"network_monitor": {"url": receiver.url("/site")}}
    made = await client.post("/api/v1/network_monitors", json=body, headers=headers)
    assert made.status_code == 201, made.text

    async def looked_at() -> bool:
        found = await client.get(f"/api/v1/network_monitors/{made.json()['uuid']}", headers=headers)
        return found.json()["last_check"] is not None

    await until(looked_at, what="the first check")


async def test_what_the_operator_makes_for_an_owner_sends_before_the_owner_has_verified(
    service: Service, client: httpx.AsyncClient
) -> None:
    name = uuid.uuid4().hex
    project = await service.new_project(owner_email=f"{name}@example.com")
    ended = await try_out(client, {"email": f"team-{name}@example.com"}, bearer(project.api_token))
    assert ended["status"] == "delivered"


async def test_an_account_that_nobody_verified_invites_nobody(
    site: Any, pool: asyncpg.Pool, settings: Settings
) -> None:
    async with visitor(site) as stranger:
        await register(stranger)
        await sign_in(stranger)
        form = {"csrf": await csrf(stranger), "email": BOB, "role": "reader"}
        refused = await stranger.post("/settings/members/invite", data=form)
        assert refused.status_code == 422
        assert "Verify your own address first" in refused.text
        assert "Send it again" in refused.text
    assert await pool.fetchval("SELECT count(*) FROM invitations") == 0
    assert [letter["To"] for letter in outbox(settings)] == [ANN]


@pytest.fixture
def sms_to_outbox(environ: dict[str, str]) -> None:
    environ["TOCSIN_SMS_PROVIDER"] = "outbox"


async def test_no_verification_code_goes_out_for_a_stranger(sms_to_outbox: None, site: Any, pool: asyncpg.Pool) -> None:
    async def asked() -> httpx.Response:
        return await stranger.post(
            "/api/v1/integrations/sms/send_verification_code", json={"phone_number": "+15005550006"}, headers=headers
        )

    async with visitor(site) as stranger:
        await register(stranger)
        await pool.execute("UPDATE projects SET plan = 'paid'")
        given = {"user": {"email": ANN, "password": PASSWORD}}
        headers = bearer((await stranger.post("/api/v1/users/sign_in", json=given)).json()["token"])
        answer = await asked()
        assert (answer.status_code, answer.json()) == (
            403, {"success": False, "error": "address_not_verified", "message": NOT_VERIFIED},
        )  # fmt: skip
        assert await pool.fetchval("SELECT count(*) FROM phone_codes_sent") == 0
        await pool.execute("UPDATE users SET email_verified_at = now()")
        assert (await asked()).status_code == 200
    assert await pool.fetchval("SELECT count(*) FROM phone_codes_sent") == 1


@pytest.fixture
async def own(pool: asyncpg.Pool, vault: Vault) -> Any:
    """A project that Ann, who is verified, made for herself."""
    ann = await account(pool, vault)
    async with pool.acquire() as tx, tx.transaction():
        return await accounts.create_project_of(tx, vault, "Shop", "free", ann, made_by=ann.id)


async def first_try(pool: asyncpg.Pool, vault: Vault, project: Any, address: str) -> Job:
    """A delivery to an address of a project, as an engine holds it."""
    async with pool.acquire() as tx, tx.transaction():
        made = await integrations.create(
            tx, vault, project.id, EMAIL, Facts(True, True), name=None, settings={"email": address}, secret=()
        )
        said = queue.test_content("http://tocsin.test", await tx.fetchval("SELECT now()"))
    return Job(made.id, project.id, made.id, 1, True, "test", 1, 0, False, said.started_at, said)


async def test_a_days_mails_to_one_address_and_of_one_project_have_an_end_that_is_told_once(
    pool: asyncpg.Pool, vault: Vault, own: Any
) -> None:
    job, other = await first_try(pool, vault, own, BOB), await first_try(pool, vault, own, "team@example.com")
    async with pool.acquire() as tx, tx.transaction():
        assert await mail_limits.check(tx, job, BOB) is None
        await tx.execute("UPDATE mail_days SET sent = $1", mail_limits.NOTIFICATIONS_TO_ONE)
        for spelled in (BOB, BOB.upper()):
            refused = await mail_limits.check(tx, job, spelled)
            assert isinstance(refused, Suppressed)
            assert f"{mail_limits.NOTIFICATIONS_TO_ONE} mails" in refused.reason
        assert await mail_limits.check(tx, other, "team@example.com") is None
        again = Job(*(2 if name == "attempt" else getattr(job, name) for name in Job.__struct_fields__))
        assert await mail_limits.check(tx, again, BOB) is None, "a try that failed is not refused the next time"
        notices = await tx.fetch("SELECT integration_id, count(*) FROM outstanding WHERE event = 'notice' GROUP BY 1")
        assert {row["count"] for row in notices} == {1}
        assert job.integration_id not in {row["integration_id"] for row in notices}
        await tx.execute("UPDATE mail_days SET sent = $1", mail_limits.NOTIFICATIONS_OF_PROJECT)
        third = await mail_limits.check(tx, other, "third@example.com")
        assert isinstance(third, Suppressed)
        assert "for this project" in third.reason
        await tx.execute("UPDATE mail_days SET day = day - 1")
        assert await mail_limits.check(tx, job, BOB) is None, "a new day"
        await tx.execute("UPDATE mail_days SET day = day - 2")
        await mail_limits.check(tx, job, BOB)
        assert await tx.fetchval("SELECT count(*) FROM mail_days") <= 2, "old days do not pile up"


async def test_a_projects_own_people_and_other_projects_are_not_counted(
    pool: asyncpg.Pool, vault: Vault, own: Any
) -> None:
    operators = await new_project(pool, vault)
    for project, address in ((own, ANN.upper()), (operators, BOB)):
        job = await first_try(pool, vault, project, address)
        async with pool.acquire() as tx, tx.transaction():
            assert await mail_limits.check(tx, job, address) is None
            assert await tx.fetchval("SELECT count(*) FROM mail_days") == 0


async def test_a_days_invitations_have_an_end_and_the_console_shows_how_many_went_out(
    site: Any, pool: asyncpg.Pool, vault: Vault, settings: Settings
) -> None:
    await account(pool, vault)
    async with visitor(site) as ann:
        await sign_in(ann)
        form = {"csrf": await csrf(ann), "role": "reader"}
        assert (await ann.post("/settings/members/invite", data={**form, "email": BOB})).status_code == 303
        for page in ("/settings/members", "/settings"):
            assert f"1 of {mail_limits.INVITATIONS_OF_PROJECT}" in (await ann.get(page)).text
        await pool.execute("UPDATE mail_days SET sent = $1", mail_limits.INVITATIONS_TO_ONE)
        refused = await ann.post("/settings/members/invite", data={**form, "email": BOB.upper()})
        assert refused.status_code == 422
        assert "daily limit is reached" in refused.text
        await pool.execute("UPDATE mail_days SET sent = $1", mail_limits.INVITATIONS_OF_PROJECT)
        assert (await ann.post("/settings/members/invite", data={**form, "email": "c@example.com"})).status_code == 422
    assert len(outbox(settings)) == 1


async def test_the_console_shows_a_projects_mails_of_the_day(
    site: Any, pool: asyncpg.Pool, vault: Vault, own: Any
) -> None:
    job = await first_try(pool, vault, own, BOB)
    async with pool.acquire() as tx, tx.transaction():
        await mail_limits.check(tx, job, BOB)
    async with visitor(site) as ann:
        await sign_in(ann)
        await pool.execute("UPDATE users SET current_project_id = $1", own.id)
        assert f"Notifications: 1 of {mail_limits.NOTIFICATIONS_OF_PROJECT}" in (await ann.get("/settings")).text


async def test_letters_to_somebody_who_never_asked_have_an_end(
    site: Any, pool: asyncpg.Pool, vault: Vault, settings: Settings
) -> None:
    async with pool.acquire() as tx, tx.transaction():
        user = await accounts.ensure_user(tx, ANN)
    for _ in range(mail_limits.LETTERS_TO_ONE + 5):
        await account_mail.send_verification(site.app.state.service, user)
    assert await pool.fetchval("SELECT max(sent) FROM mail_days") == mail_limits.LETTERS_TO_ONE


async def test_nobody_gets_around_a_projects_ceilings_by_making_many(site: Any, pool: asyncpg.Pool) -> None:
    async with visitor(site) as ann:
        await register(ann)
        await sign_in(ann)
        form = {"csrf": await csrf(ann), "name": "One more"}
        answers = [await ann.post("/projects", data=form) for _ in range(11)]
    assert [answer.status_code for answer in answers] == [303] * 10 + [429]
    assert int(answers[-1].headers["Retry-After"]) >= 1
    assert await pool.fetchval("SELECT count(*) FROM projects WHERE made_by IS NULL AND owner_id IS NOT NULL") == 0
