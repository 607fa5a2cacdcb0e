"""CPU figures in percent and in units of 1,024 a core: whatever comes, percent is stored, shown and judged."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import pytest

from tests.reports import OK, URL, ongoing, only_server, report, sample
from tocsin.domain import cpu

GO = {"User-Agent": "Go-http-client/1.1"}


async def sent(client: httpx.AsyncClient, *values: float, headers: dict[str, str] | None = None, **more: Any) -> Any:
    """Reports these CPU figures, the newest last; what was answered."""
    now = datetime.now(UTC)
    samples = [
        sample("cpu_used", value, now - timedelta(seconds=len(values) - at)) for at, value in enumerate(values, 1)
    ]
    answer = await client.post(URL, json=report(*samples, **more), headers=headers)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def shown(client: httpx.AsyncClient) -> float:
    return float((await only_server(client))["last_metrics"]["cpu_used"]["value"])


async def test_an_agent_in_go_sends_units(app_client: httpx.AsyncClient, pool: asyncpg.Pool) -> None:
    assert await sent(app_client, 2048, headers=GO, cpu_cores=4) == {
        "success_count": 1, "failure_count": 0, "message": OK,
    }  # fmt: skip
    assert await shown(app_client) == 50
    await sent(app_client, 41, headers=GO, cpu_cores=4)
    assert await shown(app_client) == pytest.approx(1.0, abs=0.01)
    assert await pool.fetchval("SELECT max(cpu_used) FROM samples") == 50


async def test_the_user_agent_counts_on_the_connection_of_a_real_service_too(client: httpx.AsyncClient) -> None:
    await sent(client, 41, headers=GO, cpu_cores=4)
    assert await shown(client) == pytest.approx(1.0, abs=0.01)
    await sent(client, 41, headers={"User-Agent": "curl/8.0"}, cpu_cores=4)
    assert await shown(client) == 41


async def test_who_says_nothing_sends_percent(app_client: httpx.AsyncClient) -> None:
    await sent(app_client, 70.0, cpu_cores=4)
    assert await shown(app_client) == 70


async def test_who_once_sent_more_than_100_sends_units_from_that_report_on(app_client: httpx.AsyncClient) -> None:
    await sent(app_client, 70, cpu_cores=4)
    assert (await sent(app_client, 1024, 2048, cpu_cores=4))["success_count"] == 2
    assert await shown(app_client) == 50
    await sent(app_client, 1024)  # nothing is said of the cores this time
    assert await shown(app_client) == 25


async def test_who_says_percent_sends_percent_whatever_came_before(app_client: httpx.AsyncClient) -> None:
    await sent(app_client, 2048, cpu_cores=4)
    await sent(app_client, 70, cpu_cores=4, cpu_unit="percent", headers=GO)
    assert await shown(app_client) == 70
    told = await sent(app_client, 150, cpu_cores=4, cpu_unit="percent")
    assert (told["success_count"], told["failure_count"]) == (0, 1)
    assert told["errors"] == [{"field": "metrics[0]", "message": cpu.TOO_MUCH}]


async def test_over_100_by_rounding_is_100(app_client: httpx.AsyncClient) -> None:
    for value, more in ((100.4, {}), (100.0001, {"cpu_unit": "percent"})):
        await sent(app_client, value, cpu_cores=4, **more)  # type: ignore[arg-type]
        assert await shown(app_client) == 100
    await sent(app_client, 50, cpu_cores=4)
    assert await shown(app_client) == 50, "what was rounded up showed no units"
    await sent(app_client, 4_120, cpu_cores=4, headers=GO)
    assert await shown(app_client) == 100


async def test_units_a_little_over_all_cores_are_100_percent_and_known_as_units(app_client: httpx.AsyncClient) -> None:
    await sent(app_client, 4_150, cpu_cores=4)
    assert await shown(app_client) == 100
    await sent(app_client, 2_048, cpu_cores=4)
    assert await shown(app_client) == 50
    await sent(app_client, 1.25 * 4_096, cpu_cores=4, headers=GO)
    assert await shown(app_client) == 100
    told = await sent(app_client, 1.26 * 4_096, cpu_cores=4, headers=GO)
    assert told["errors"] == [{"field": "metrics[0]", "message": cpu.TOO_MUCH}]


@pytest.mark.parametrize("cores", [None, 0])
async def test_without_the_number_of_cores_over_100_is_a_bad_sample_and_nothing_follows_from_it(
    app_client: httpx.AsyncClient, cores: int | None
) -> None:
    told = await sent(app_client, 7, 2048, cpu_cores=cores)
    assert (told["success_count"], told["failure_count"]) == (1, 1)
    assert told["errors"][0]["field"] == "metrics[1]"
    told = await sent(app_client, 7, headers=GO, cpu_cores=cores)
    assert told["errors"] == [{"field": "metrics[0]", "message": cpu.NO_CORES}]
    await sent(app_client, 70, cpu_cores=4)
    assert await shown(app_client) == 70


async def test_what_is_too_much_for_units_is_a_bad_sample_and_shows_no_unit(app_client: httpx.AsyncClient) -> None:
    told = await sent(app_client, 70, 1e300, cpu_cores=4)
    assert (told["success_count"], told["failure_count"]) == (1, 1)
    await sent(app_client, 70, cpu_cores=4)
    assert await shown(app_client) == 70


async def test_units_are_of_as_many_cores_as_the_machine_has_now(app_client: httpx.AsyncClient) -> None:
    await sent(app_client, 2048, cpu_cores=4)
    await sent(app_client, 2048, cpu_cores=8)
    assert await shown(app_client) == 25


async def test_the_cpu_of_a_machine_with_the_public_agent_is_watched(app_client: httpx.AsyncClient) -> None:
    now = datetime.now(UTC)
    busy = [sample("cpu_used", 4000, now - timedelta(minutes=5 - minute)) for minute in range(6)]
    await app_client.post(URL, json=report(*busy, cpu_cores=4), headers=GO)
    assert await ongoing(app_client) == [("web-1", "CPU at 97.7 % for 5 min on web-1 (threshold 90 %)")]


async def test_our_own_agent_says_that_it_sends_percent() -> None:
    from tocsin.web.static import agent

    assert agent.attributes("http://127.0.0.1:1", None)["cpu_unit"] == "percent"
