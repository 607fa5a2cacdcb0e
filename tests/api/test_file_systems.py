"""What agents send beside samples: file systems, swap, load, failed units and the processes that use most."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import pytest

from tests.reports import OK, URL, only_server, report, sample
from tocsin.domain.file_systems import MAX_DISKS
from tocsin.domain.units import MAX_UNITS

GB = 10**9


def disk(mount: str, used: float, inodes: float | None = None) -> dict[str, object]:
    """A file system of 100 GB of which so many percent are used."""
    return {"mount": mount, "used": int(used * GB), "total": 100 * GB, "inodes": inodes}


async def sent(client: httpx.AsyncClient, *samples: object, disks: Any = None, **more: Any) -> Any:
    """Sends a report with these, leaving out what is None; what was answered."""
    given = {"disks": disks, **{name: more.pop(name, None) for name in ("failed_units", "processes")}}
    body = report(*samples, **more) | {name: value for name, value in given.items() if value is not None}
    answer = await client.post(URL, json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def alerts(client: httpx.AsyncClient, **changed: Any) -> httpx.Response:
    uuid = (await only_server(client))["uuid"]
    return await client.patch(f"/api/v1/servers/{uuid}", json={"server": {"alerts": changed}})


async def ongoing(client: httpx.AsyncClient) -> list[str]:
    found = (await client.get("/api/v1/incidents?status=ongoing")).json()["data"]
    return sorted(each["error_message"] for each in found)


async def ended(pool: asyncpg.Pool) -> list[str]:
    rows = await pool.fetch("SELECT resolved_by FROM incidents WHERE closed_at IS NOT NULL ORDER BY id")
    return [row["resolved_by"] for row in rows]


# -------------------------------------------------------------------------------------------------------- file systems


async def test_each_full_file_system_has_its_own_incident_that_names_its_mount(app_client: httpx.AsyncClient) -> None:
    told = await sent(app_client, disks=[disk("/", 50), disk("/var", 93), disk("/srv", 95)])
    assert told == {"success_count": 0, "failure_count": 0, "message": OK}
    both = [
        "Disk /srv at 95 % on web-1 (threshold 90 %)",
        "Disk /var at 93 % on web-1 (threshold 90 %)",
    ]
    assert await ongoing(app_client) == both
    await sent(app_client, disks=[disk("/", 50), disk("/var", 93), disk("/srv", 95)])
    assert await ongoing(app_client) == both
    await sent(app_client, disks=[disk("/", 50), disk("/var", 80), disk("/srv", 87)])
    assert await ongoing(app_client) == ["Disk /srv at 95 % on web-1 (threshold 90 %)"], "87 % is within the margin"
    assert (await only_server(app_client))["disks"] == [disk("/", 50), disk("/var", 80), disk("/srv", 87)]


async def test_a_file_system_without_inodes_left_is_full(app_client: httpx.AsyncClient) -> None:
    await sent(app_client, disks=[disk("/var", 20, inodes=99.5), disk("/", 20, inodes=3)])
    assert await ongoing(app_client) == ["Inodes of /var at 99.5 % on web-1 (threshold 90 %)"]


async def test_the_incident_of_a_mount_that_is_gone_ends(app_client: httpx.AsyncClient, pool: asyncpg.Pool) -> None:
    await sent(app_client, disks=[disk("/", 10), disk("/mnt/usb", 99)])
    assert len(await ongoing(app_client)) == 1
    await sent(app_client, disks=[disk("/", 10), {"mount": "/mnt/usb", "used": 1, "total": 0}])
    assert len(await ongoing(app_client)) == 1, "what cannot be understood is not gone"
    await sent(app_client, disks=[disk("/", 10)])
    assert await ongoing(app_client) == []
    assert await ended(pool) == ["/mnt/usb is no longer mounted on web-1"]


async def test_each_file_system_may_have_its_own_threshold_with_a_warning_below_or_none(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool
) -> None:
    await sent(app_client, disks=[disk("/", 10)])
    own = {"threshold": 80, "for": 0, "warning": {"threshold": 60, "for": 0}}
    answer = await alerts(app_client, disks={"/srv": own, "/backup": None})
    assert answer.json()["alerts"]["disks"] == {"/backup": None, "/srv": own}
    await sent(app_client, disks=[disk("/", 70), disk("/srv", 70), disk("/backup", 99)])
    assert await ongoing(app_client) == ["Disk /srv at 70 % on web-1 (threshold 60 %)"]
    assert await pool.fetch("SELECT severity, dedup_key FROM ongoing") == [("warning", "/srv")]
    await sent(app_client, disks=[disk("/", 70), disk("/srv", 85), disk("/backup", 99)])
    assert await pool.fetch("SELECT severity, dedup_key FROM ongoing") == [("critical", "/srv")]
    await sent(app_client, disks=[disk("/", 70), disk("/srv", 40), disk("/backup", 99)])
    assert await ongoing(app_client) == []


async def test_switching_the_disks_alert_off_ends_all_but_those_that_have_their_own(
    app_client: httpx.AsyncClient,
) -> None:
    await sent(app_client, disks=[disk("/", 95), disk("/srv", 95)])
    answer = await alerts(app_client, disks={"/srv": {}}, disk=None)
    assert answer.json()["alerts"]["disks"] == {"/srv": {"threshold": 90, "for": 0}}
    assert await ongoing(app_client) == ["Disk /srv at 95 % on web-1 (threshold 90 %)"]
    await alerts(app_client, disks={"/srv": None})
    assert await ongoing(app_client) == []


async def test_the_plain_disk_stays_as_it_is_for_agents_that_send_no_file_systems(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool
) -> None:
    plain = sample("disk_used_b", 95)
    await sent(app_client, plain, disk_total_bytes=100)
    assert await ongoing(app_client) == ["Disk at 95 % on web-1 (threshold 90 %)"]
    assert (await only_server(app_client))["disks"] is None
    await sent(app_client, sample("disk_used_b", 95), disks=[disk("/", 95), disk("/var", 5)])
    assert await ongoing(app_client) == ["Disk / at 95 % on web-1 (threshold 90 %)"], "never two for one disk"
    await sent(app_client, sample("disk_used_b", 95))
    assert await ongoing(app_client) == ["Disk at 95 % on web-1 (threshold 90 %)"]
    assert await ended(pool) == [
        "Its file systems are watched one by one from now on", "Its agent does not report file systems any more",
    ]  # fmt: skip


async def test_reports_that_share_a_commit_open_and_end_each_file_system_in_their_order(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool
) -> None:
    for _ in range(3):
        await sent(app_client, disks=[disk("/", 95), disk("/a", 95)])
        await sent(app_client, disks=[disk("/", 10), disk("/a", 95)])
    assert await ongoing(app_client) == ["Disk /a at 95 % on web-1 (threshold 90 %)"]
    assert len(await ended(pool)) == 3


# ------------------------------------------------------------------------------------------------- swap, load, the rest


async def test_swap_and_load_are_stored_and_judged_only_once_switched_on(app_client: httpx.AsyncClient) -> None:
    now = datetime.now(UTC)
    machine: Any = {"cpu_cores": 4, "swap_total_bytes": 1000}

    def busy(seconds: float) -> list[object]:
        at = now + timedelta(seconds=seconds)
        return [sample("swap_used_b", 950, at), sample("load_1m", 10, at), sample("disk", 42, at)]

    assert (await sent(app_client, *busy(-2), **machine))["success_count"] == 3
    assert await ongoing(app_client) == []
    answer = await alerts(app_client, swap={"for": 0}, load={"threshold": 250, "for": 0})
    assert answer.json()["alerts"]["swap"] == {"threshold": 80, "for": 0}
    await sent(app_client, *busy(-1), **machine)
    assert await ongoing(app_client) == [
        "Load at 250 % on web-1 (threshold 250 %)", "Swap at 95 % on web-1 (threshold 80 %)",
    ]  # fmt: skip
    server = await only_server(app_client)
    assert {name: each["value"] for name, each in server["last_metrics"].items()} == {
        "swap_used_b": 950, "load_1m": 10, "disk": 42,
    }  # fmt: skip
    series = await app_client.get(f"/api/v1/servers/{server['uuid']}/metrics?metric=load_1m,disk")
    assert {each["metric"] for each in series.json()["data"]} == {"load_1m", "disk"}


async def test_the_processes_that_use_most_are_kept_with_the_incident_that_they_may_explain(
    app_client: httpx.AsyncClient,
) -> None:
    most = {
        "cpu": [{"name": "cron", "share": 2}, {"name": "python3", "share": 91.234}],
        "ram": [{"name": "postgres", "share": 31}],
    }
    await sent(app_client, cpu_cores=4)
    await alerts(app_client, cpu={"for": 0})
    await sent(app_client, sample("cpu_used", 97), processes=most, disks=[disk("/", 95)])
    found = (await app_client.get("/api/v1/incidents?status=ongoing")).json()["data"]
    said = {}
    for each in found:
        one = (await app_client.get(f"/api/v1/incidents/{each['uuid']}")).json()
        said[each["error_message"][:3]] = one.get("details")
    assert said == {
        "CPU": {"processes": {
            "cpu": [{"name": "python3", "share": 91.2}, {"name": "cron", "share": 2.0}],
            "ram": [{"name": "postgres", "share": 31.0}],
        }},
        "Dis": None,
    }  # fmt: skip


async def test_a_failed_unit_is_an_incident_once_that_is_switched_on_and_ends_when_it_is_well(
    app_client: httpx.AsyncClient,
) -> None:
    await sent(app_client, failed_units=["backup.service", "nginx.service"])
    assert await ongoing(app_client) == []
    assert (await only_server(app_client))["failed_units"] == ["backup.service", "nginx.service"]
    await alerts(app_client, unit_failed={})
    await sent(app_client, failed_units=["backup.service", "nginx.service"])
    assert await ongoing(app_client) == ["backup.service has failed on web-1", "nginx.service has failed on web-1"]
    await sent(app_client)
    assert len(await ongoing(app_client)) == 2, "a report that says nothing of units says nothing of them"
    await sent(app_client, failed_units=["nginx.service"])
    assert await ongoing(app_client) == ["nginx.service has failed on web-1"]
    await alerts(app_client, unit_failed=None)
    assert await ongoing(app_client) == []


async def test_a_unit_must_have_failed_for_as_long_as_the_alert_says(app_client: httpx.AsyncClient) -> None:
    await sent(app_client)
    await alerts(app_client, unit_failed={"for": 3600})
    for _ in range(2):
        await sent(app_client, failed_units=["nginx.service"])
        assert await ongoing(app_client) == []


# ----------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"disks": [disk("/", 1), "moon"]}, "disks[1]"),
        ({"disks": [disk("/", 1), disk("var", 1)]}, "disks[1]"),
        ({"disks": [disk("/", 1), disk("/" + "a" * 255, 1)]}, "disks[1]"),
        ({"disks": [disk("/", 1), disk("/a\u202eb", 1)]}, "disks[1]"),
        ({"disks": [disk("/", 1), disk("/", 2)]}, "disks[1]"),
        ({"disks": [disk("/", 1), {"mount": "/a", "used": 2, "total": 1}]}, "disks[1]"),
        ({"disks": [disk("/", 1), {"mount": "/a", "used": -1, "total": 1}]}, "disks[1]"),
        ({"disks": [disk("/", 1), {"mount": "/a", "used": 1, "total": 2**64}]}, "disks[1]"),
        ({"disks": [disk("/", 1), {"mount": "/a", "used": True, "total": 9}]}, "disks[1]"),
        ({"disks": [disk("/", 1), disk("/a", 1, inodes=101)]}, "disks[1]"),
        ({"disks": {"/": 1}}, "disks"),
        ({"disks": [disk(f"/{number}", 1) for number in range(MAX_DISKS + 2)]}, f"disks[{MAX_DISKS}]"),
        ({"failed_units": "nginx"}, "failed_units"),
        ({"failed_units": ["a.service", ""]}, "failed_units[1]"),
        ({"failed_units": [f"{number}.service" for number in range(MAX_UNITS + 9)]}, f"failed_units[{MAX_UNITS}]"),
        ({"processes": []}, "processes"),
        ({"processes": {"cpu": "python3"}}, "processes.cpu"),
        ({"processes": {"ram": [{"name": "a", "share": 1}, {"name": "b", "share": 101}]}}, "processes.ram[1]"),
        ({"processes": {"ram": [{"name": "a", "share": 1}, {"name": "b" * 65, "share": 1}]}}, "processes.ram[1]"),
    ],
    ids=[f"{number}" for number in range(19)],
)  # fmt: skip
async def test_what_is_wrong_is_refused_by_its_index_and_the_rest_is_taken(
    app_client: httpx.AsyncClient, given: Any, field: str
) -> None:
    told = await sent(app_client, sample("cpu_used", 7), **given)
    assert (told["success_count"], told["failure_count"]) == (1, 1)
    assert [each["field"] for each in told["errors"]] == [field]
    server = await only_server(app_client)
    assert len(server["disks"] or []) <= MAX_DISKS
    assert len(server["failed_units"] or []) <= MAX_UNITS


async def test_a_disk_in_percent_is_not_over_100(app_client: httpx.AsyncClient) -> None:
    assert (await sent(app_client, sample("disk", 101)))["failure_count"] == 1


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"disks": []}, "alerts.disks"),
        ({"disks": {"var": {"threshold": 80}}}, "alerts.disks"),
        ({"disks": {f"/{number}": None for number in range(MAX_DISKS + 1)}}, "alerts.disks"),
        ({"disks": {"/": {"threshold": 101}}}, "alerts.disks./.threshold"),
        ({"disks": {"/": {"threshold": 80, "warning": {"threshold": 81}}}}, "alerts.disks./.warning.threshold"),
        ({"load": {"threshold": 10_001}}, "alerts.load.threshold"),
        ({"swap": {"threshold": 101}}, "alerts.swap.threshold"),
        ({"unit_failed": {"for": -1}}, "alerts.unit_failed.for"),
    ],
    ids=[f"{number}" for number in range(8)],
)
async def test_alerts_that_cannot_be_change_nothing(app_client: httpx.AsyncClient, wrong: Any, field: str) -> None:
    await sent(app_client)
    before = (await only_server(app_client))["alerts"]
    answer = await alerts(app_client, **wrong)
    assert answer.status_code == 422
    if field != "alerts.disks" or isinstance(wrong["disks"], dict):
        assert [each["field"].removeprefix("server.") for each in answer.json()["details"]] == [field]
    assert (await only_server(app_client))["alerts"] == before
