"""What probes ask and say, and that their tokens open nothing else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import pytest
import pytest_asyncio

from tests.probes import Spoken, new_probe
from tests.service import new_project
from tests.users import token_of
from tocsin.api import probe as api
from tocsin.storage.monitoring import probes
from tocsin.storage.postgres.secrets import Vault

PATH = "/api/v1/network_monitors"
Make = Callable[..., Awaitable[Spoken]]


@pytest_asyncio.fixture
async def make(pool: asyncpg.Pool, vault: Vault, app_client: httpx.AsyncClient, project: Any) -> Make:
    async def make(name: str = "wien", only: Any = None) -> Spoken:
        return await new_probe(pool, vault, app_client, project.id, name, only)

    return make


async def monitor(client: httpx.AsyncClient, *locations: str, **fields: Any) -> str:
    wanted = {"url": "http://192.0.2.1/", "locations": locations or ["wien"], "confirmations": 1, **fields}
    answer = await client.post(PATH, json={"network_monitor": wanted})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["uuid"])


async def change(client: httpx.AsyncClient, uuid: str, **fields: Any) -> None:
    answer = await client.patch(f"{PATH}/{uuid}", json={"network_monitor": fields})
    assert answer.is_success, answer.text


async def test_a_probe_is_told_what_to_check_and_what_has_changed(make: Make, app_client: httpx.AsyncClient) -> None:
    wien = await make()
    uuid = await monitor(app_client, headers={"X-Key": "a-secret"}, interval=90, timeout=7)
    said = await wien.work()
    [check] = said["checks"]
    assert (check["uuid"], check["interval"], said["next_seq"], said["ask"], said["gone"]) == (uuid, 90, 1, [], [])
    target = check["target"]
    assert (target["url"], target["check_type"], target["timeout"]) == ("http://192.0.2.1/", "http", 7)
    assert target["options"]["headers"] == {"X-Key": "a-secret"}
    assert abs(datetime.fromisoformat(said["now"]) - datetime.now(UTC)) < timedelta(seconds=30)
    assert (await wien.work())["checks"] == []
    await change(app_client, uuid, name="Only a name")
    assert (await wien.work())["checks"] == []
    await change(app_client, uuid, interval=120)
    [check] = (await wien.work())["checks"]
    assert (check["uuid"], check["interval"]) == (uuid, 120)
    await change(app_client, uuid, paused=True)
    said = await wien.work()
    assert (said["checks"], said["gone"]) == ([], [uuid])
    await change(app_client, uuid, paused=False)
    assert [each["uuid"] for each in (await wien.work())["checks"]] == [uuid]
    wien.cursor = None
    assert [each["uuid"] for each in (await wien.work())["checks"]] == [uuid]


async def test_a_request_for_work_is_held_until_there_is_some(make: Make, app_client: httpx.AsyncClient) -> None:
    wien = await make()
    await wien.work()
    held = asyncio.create_task(wien.work(wait=20))
    await asyncio.sleep(0.2)
    assert not held.done()
    uuid = await monitor(app_client)
    assert [each["uuid"] for each in (await asyncio.wait_for(held, 15))["checks"]] == [uuid]
    began = time.monotonic()
    assert (await wien.work(wait=1))["checks"] == []
    assert time.monotonic() - began > 0.9


async def test_a_second_request_ends_the_first_and_so_does_the_end_of_the_process(make: Make) -> None:
    wien = await make()
    await wien.work()
    first = asyncio.create_task(wien.work(wait=30))
    await asyncio.sleep(0.1)
    second = asyncio.create_task(wien.work(wait=30))
    await asyncio.wait_for(first, 10)
    assert not second.done()
    api.close()
    await asyncio.wait_for(second, 10)


async def test_many_monitors_come_in_several_answers(make: Make, app_client: httpx.AsyncClient) -> None:
    wien = await make()
    uuids = {await monitor(app_client) for _ in range(api.CHECKS + 5)}
    first = await wien.work()
    assert (len(first["checks"]), first["more"]) == (api.CHECKS, True)
    second = await wien.work()
    assert (len(second["checks"]), second["more"]) == (5, False)
    assert wien.checks.keys() == uuids


async def test_places_that_disagree_open_nothing_and_a_majority_does(make: Make, app_client: httpx.AsyncClient) -> None:
    wien, graz, linz = await make("wien"), await make("graz"), await make("linz")
    uuid = await monitor(app_client, "wien", "graz", "linz")
    for each in (wien, graz, linz):
        await each.work()
        await each.send(each.result(uuid, round=int(time.time() // 60) - 1))
    await wien.send(wien.result(uuid, "timeout"))
    assert (await app_client.get(f"{PATH}/{uuid}")).json()["open_incident_uuids"] == []
    assert (await graz.work(wait=5))["ask"] == [uuid]
    assert (await graz.work())["ask"] == [], "asked once"
    assert (await wien.work())["ask"] == []
    seen = (await app_client.get(f"{PATH}/{uuid}")).json()["places"]
    assert [(each["place"], each["problem"], each["votes"]) for each in seen] == [
        ("wien", "timeout", True), ("graz", None, True), ("linz", None, True)
    ]
    await graz.send(graz.result(uuid, "timeout"))
    [incident] = (await app_client.get(f"{PATH}/{uuid}")).json()["open_incident_uuids"]
    found = (await app_client.get(f"/api/v1/incidents/{incident}")).json()
    assert found["error_message"] == "From 2 of 3 places (wien, graz): It saw timeout"


async def test_a_round_that_is_yet_to_come_is_no_vote(make: Make, app_client: httpx.AsyncClient) -> None:
    wien = await make("wien")
    uuid = await monitor(app_client, "wien")
    await wien.work()
    await wien.send(wien.result(uuid, "timeout", round=int(time.time() // 60) + 2))
    assert (await app_client.get(f"{PATH}/{uuid}")).json()["places"][0]["problem"] is None


async def test_what_was_seen_before_our_clock_was_put_back_does_not_stand_in_the_way(
    make: Make, app_client: httpx.AsyncClient, pool: asyncpg.Pool
) -> None:
    wien = await make("wien")
    uuid = await monitor(app_client, "wien")
    await wien.work()
    await wien.send(wien.result(uuid))
    await pool.execute("""
        UPDATE monitor_places
        SET round = round + 60, at = at + interval '1 hour', heard_at = heard_at + interval '1 hour'
    """)
    await wien.send(wien.result(uuid, "timeout"))
    assert (await app_client.get(f"{PATH}/{uuid}")).json()["places"][0]["problem"] == "timeout"


async def test_a_probe_that_is_made_again_for_one_project_alone_is_no_place_of_others(
    make: Make, app_client: httpx.AsyncClient, pool: asyncpg.Pool, vault: Vault, project: Any
) -> None:
    await make("wien")
    uuid = await monitor(app_client, "wien", "here")
    async with pool.acquire() as tx, tx.transaction():
        await probes.revoke(tx, "wien")
        assert await probes.create(tx, vault, project.id, "wien", (await new_project(pool, vault)).id)
    body = {"network_monitor": {"interval": 120}}
    assert (await app_client.patch(f"{PATH}/{uuid}", json=body)).status_code == 200
    places = (await app_client.get(f"{PATH}/{uuid}")).json()["places"]
    assert [each["place"] for each in places] == ["here"]


async def test_a_cursor_that_a_restored_backup_does_not_know_begins_anew(
    make: Make, app_client: httpx.AsyncClient
) -> None:
    wien = await make("wien")
    uuid = await monitor(app_client, "wien")
    answer = (await wien.post("work", {"cursor": "999999999.999999999"})).json()
    assert [each["uuid"] for each in answer["checks"]] == [uuid]


async def test_a_result_is_taken_once_however_often_it_is_sent(
    make: Make, app_client: httpx.AsyncClient, pool: asyncpg.Pool
) -> None:
    wien = await make()
    uuid = await monitor(app_client)
    await wien.work()
    given = [wien.result(uuid), wien.result(uuid), wien.result(uuid)]
    assert await wien.send(*given) == {"accepted": 3, "gone": []}
    assert await wien.send(*given) == {"accepted": 3, "gone": []}
    assert await wien.send(*given, wien.result(uuid)) == {"accepted": 4, "gone": []}
    assert await pool.fetchval("SELECT count(*) FROM checks WHERE place = 'wien'") == 4
    assert (await wien.work())["next_seq"] == 5
    assert await wien.send() == {"accepted": 4, "gone": []}


async def test_what_is_not_a_probes_any_more_is_said_to_be_gone(
    make: Make, app_client: httpx.AsyncClient, pool: asyncpg.Pool
) -> None:
    wien = await make()
    uuids = [await monitor(app_client) for _ in range(4)]
    await wien.work()
    await change(app_client, uuids[0], locations=["here"])
    await app_client.delete(f"{PATH}/{uuids[1]}")
    await change(app_client, uuids[2], interval=600)
    said = await wien.send(*(wien.result(uuid) for uuid in (*uuids, "NM123", "x" * 40)))
    assert set(said["gone"]) >= set(uuids[:3])
    assert uuids[3] not in said["gone"]
    assert await pool.fetchval("SELECT count(*) FROM checks") == 2, "of those that are its own"


async def test_what_can_be_no_monitor_is_gone_by_its_own_name(make: Make) -> None:
    wien = await make("wien")
    assert await wien.send(wien.result("NM-of-nobody")) == {"accepted": 1, "gone": ["NM-of-nobody"]}


async def test_a_monitor_of_another_probe_is_not_touched(
    make: Make, app_client: httpx.AsyncClient, pool: asyncpg.Pool
) -> None:
    wien, graz = await make("wien"), await make("graz")
    uuid = await monitor(app_client, "graz")
    await graz.work()
    wien.checks = graz.checks
    assert await wien.send(wien.result(uuid, "timeout")) == {"accepted": 1, "gone": [uuid]}
    assert await pool.fetchval("SELECT count(*) FROM checks") == 0
    assert await pool.fetchval("SELECT count(*) FROM incidents") == 0


async def test_a_probe_of_one_project_gets_no_other_projects_monitors(
    make: Make, app_client: httpx.AsyncClient, pool: asyncpg.Pool, vault: Vault
) -> None:
    other = await new_project(pool, vault)
    theirs = await make("theirs", other.id)
    wanted = {"url": "http://192.0.2.1/", "locations": ["theirs"]}
    answer = await app_client.post(PATH, json={"network_monitor": wanted})
    assert answer.status_code == 422
    app_client.headers["Authorization"] = f"Bearer {other.api_token}"
    uuid = await monitor(app_client, "theirs")
    assert [each["uuid"] for each in (await theirs.work())["checks"]] == [uuid]


async def test_a_revoked_probe_is_unknown_and_a_new_one_of_its_name_takes_over(
    make: Make, app_client: httpx.AsyncClient, pool: asyncpg.Pool
) -> None:
    wien = await make()
    uuid = await monitor(app_client, "wien", "here")
    await wien.work()
    held = asyncio.create_task(wien.post("work", {"cursor": wien.cursor, "wait": 20}))
    await asyncio.sleep(0.1)
    async with pool.acquire() as tx, tx.transaction():
        done = await probes.revoke(tx, "wien")
    assert done is not None
    assert (done.monitors, done.unchecked) == (1, 0)
    assert (await asyncio.wait_for(held, 15)).status_code == 401
    assert (await wien.post("results", {"results": []})).status_code == 401
    again = await make("wien")
    assert again.token != wien.token
    assert again.id == wien.id
    assert [each["uuid"] for each in (await again.work())["checks"]] == [uuid]


async def test_a_token_outlives_a_change_of_keys(make: Make, pool: asyncpg.Pool, settings: Any) -> None:
    wien = await make()
    old, new = settings.secret_keys[0], b"n" * 32
    both = Vault([new, old])
    async with pool.acquire() as tx:
        assert await probes.of_token(tx, both, wien.token) is not None
        assert await probes.of_token(tx, Vault([new]), wien.token) is not None, "it was hashed anew when it was seen"


async def test_a_probes_token_opens_nothing_but_its_own_two_calls(
    make: Make, app_client: httpx.AsyncClient, application: Any
) -> None:
    wien = await make()
    paths = (await app_client.get("/api/v1/openapi.json")).json()["paths"]
    tried = 0
    for path, operations in paths.items():
        for method, operation in operations.items():
            if path.startswith("/probe/v1/") or not operation.get("security", [{}]):
                continue
            filled = path.replace("{", "x").replace("}", "x")
            for token in (wien.token, "tpr_nobody"):
                for form in (f"Bearer {token}", token):
                    answer = await app_client.request(
                        method, filled, headers={"Authorization": form}, json={"results": []}
                    )
                    assert answer.status_code == 401, (method, path, answer.text)
                    assert answer.json()["error"] == "unauthorized"
            tried += 1
    assert tried > 80
    page = await app_client.get("/network_monitors", headers={"Authorization": f"Bearer {wien.token}"})
    assert page.status_code in (302, 303, 401)


async def test_no_other_token_opens_a_probes_calls(
    make: Make, app_client: httpx.AsyncClient, pool: asyncpg.Pool, vault: Vault, project: Any
) -> None:
    wien = await make()
    person = await token_of(pool, vault, project, "owner")
    for token in (project.api_token, person, "tpr_nobody", f"{wien.token}x", "", project.api_token + wien.token):
        for path, body in (("work", {}), ("results", {"results": []})):
            assert (await wien.post(path, body, token)).status_code == 401, token
    assert (await app_client.get("/probe/v1/work")).status_code == 405


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("work", {"cursor": "x"}), ("work", {"cursor": "9" * 90 + ".1"}), ("work", {"cursor": "1.²"}),
        ("work", {"wait": 31}), ("work", {"wait": -1}), ("work", {"version": "x" * 51}),
        ("results", {}), ("results", {"results": [{}]}), ("results", {"results": [{"seq": 1}] * 501}),
    ],
)  # fmt: skip
async def test_what_a_probe_may_not_say_is_refused(make: Make, path: str, body: Any) -> None:
    answer = await (await make()).post(path, body)
    assert answer.status_code == 422, answer.text


@pytest.mark.parametrize(
    "fields",
    [
        {"seq": -1}, {"seq": 2**63}, {"round": -1}, {"round": 2**60}, {"at": "yesterday"},
        {"at": "2026-01-01T00:00:00"},
        {"version": ""}, {"problem": "odd"}, {"status_code": 1000}, {"response_ms": -1}, {"response_ms": 1e300},
        {"findings": [{}]}, {"uuid": "x" * 41}, {"message": "\0"},
        {"findings": [{"type": "odd", "severity": "critical", "message": "", "fingerprint": "a", "details": {}}]},
        {"evidence": {"request_headers": {str(n): "" for n in range(101)}}},
    ],
)  # fmt: skip
async def test_a_result_that_cannot_be_is_refused_and_names_its_field(make: Make, fields: dict[str, Any]) -> None:
    wien = await make()
    answer = await wien.post("results", {"results": [wien.result("NM123", "timeout") | fields]})
    assert answer.status_code == 422, answer.text
    assert answer.json()["details"][0]["field"].startswith(f"results[0].{next(iter(fields))}")


async def test_long_words_are_cut_and_a_time_to_come_is_now(
    make: Make, app_client: httpx.AsyncClient, pool: asyncpg.Pool
) -> None:
    wien = await make()
    uuid = await monitor(app_client)
    await wien.work()
    ahead = (datetime.now(UTC) + timedelta(days=900)).isoformat()
    seen = {"request": "r" * 50_000, "response": "s" * 50_000}
    await wien.send(wien.result(uuid, "timeout", message="m" * 50_000, at=ahead, evidence=seen))
    assert await pool.fetchval("SELECT at <= now() FROM checks")
    row = await pool.fetchrow("SELECT message, request, response FROM incidents")
    assert max(map(len, row)) <= api.MAX_EVIDENCE


async def test_a_number_far_ahead_does_not_shut_the_honest_probe_out(make: Make, app_client: httpx.AsyncClient) -> None:
    wien = await make()
    uuid = await monitor(app_client)
    await wien.work()
    assert (await wien.send(wien.result(uuid, seq=2**53)))["accepted"] == 0
    assert (await wien.send(wien.result(uuid, seq=7)))["accepted"] == 7


async def test_results_of_many_probes_share_a_commit(
    make: Make, app_client: httpx.AsyncClient, pool: asyncpg.Pool
) -> None:
    all_ = [await make(name) for name in ("wien", "graz", "linz")]
    uuids = [await monitor(app_client, "wien", "graz", "linz") for _ in range(20)]
    for each in all_:
        await each.work()
    await asyncio.gather(*(each.send(*(each.result(uuid) for uuid in uuids)) for each in all_ for _ in range(3)))
    assert await pool.fetchval("SELECT count(*) FROM monitor_places WHERE successes >= 1") == 60


async def test_a_probe_is_seen_to_be_there(make: Make, pool: asyncpg.Pool) -> None:
    wien = await make()
    await wien.work()
    async with pool.acquire() as tx:
        [found] = await probes.list_(tx)
    assert (found.name, found.version) == ("wien", "1.2.3")
    assert found.seen_at is not None
