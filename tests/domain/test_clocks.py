"""A clock that is wrong is not silence: what is off by the same amount each time is judged by when it arrives."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import pytest

from tests.reports import URL, ongoing, only_server, report, sample
from tocsin.domain import clocks
from tocsin.domain.clocks import Clock

FULL = ("web-1", "Disk at 99.9 % on web-1 (threshold 90 %)")


def reports(*spoken: tuple[float, float], clock: Clock | None = None) -> Clock | None:
    """What is known after reports of (arrival, newest sample), one sample each."""
    for arrived, newest in spoken:
        clock = clocks.follow(clock, [newest], arrived)
    return clock


def skew(clock: Clock | None) -> float:
    return clock["skew"] if clock else 0.0


# ---------------------------------------------------------------------------------------------------- what is a clock


@pytest.mark.parametrize("off", [-5 * 3600, -360, -150, 150, 290, 360, 5 * 3600, -50 * 365 * 86_400])
def test_what_is_off_by_the_same_amount_each_time_is_a_clock(off: float) -> None:
    jitter = (0, 2, -3, 1)
    assert skew(reports(*((60 * n, 60 * n + off + jitter[n]) for n in range(4)))) == pytest.approx(off, abs=5)


@pytest.mark.parametrize("off", [0, -5, -119, 119])
def test_a_clock_that_is_little_off_is_right(off: float) -> None:
    assert reports(*((60 * n, 60 * n + off) for n in range(4))) is None


@pytest.mark.parametrize(("step", "pause"), [(60, 0.05), (10, 0.05), (360, 1), (60, 5), (3600, 0.2)])
def test_what_was_kept_and_is_sent_part_by_part_is_no_clock(step: float, pause: float) -> None:
    now, clock = 1_000_000.0, None
    for number in range(20):
        clock = clocks.follow(clock, [now - 80_000 + number * step], now + number * pause)
        assert skew(clock) == 0
    assert clocks.follow(clock, [now + 120], now + 121) is None


@pytest.mark.parametrize("arrivals", [(0, 0.1), (0, 60), (0, 3600), (0, 1, 3, 7, 15, 29)])
def test_a_report_that_is_sent_again_shows_nothing(arrivals: tuple[float, ...]) -> None:
    assert skew(reports(*((arrived, -3600) for arrived in arrivals))) == 0


@pytest.mark.parametrize("off", [0, 100, -3600, 360, 5 * 3600, -1_764_000_000])
def test_a_clock_that_stands_still_is_known_by_the_third_report(off: float) -> None:
    clock = None
    for arrived in range(0, 1260, 20):
        clock = clocks.follow(clock, [off], arrived)
        if arrived >= 300:
            assert skew(clock) == off - arrived


def test_a_clock_that_goes_on_after_it_stood_still_is_behind_by_that() -> None:
    still = reports(*((20 * n, -3600) for n in range(10)))
    assert skew(still) == -3780
    assert skew(reports((200, -3580), (220, -3560), clock=still)) == -3780
    assert reports((200, 200), clock=still) is None


def test_people_are_told_of_a_clock_that_stands_still() -> None:
    clock, told = None, []
    for arrived in range(0, 1260, 20):
        clock = clocks.follow(clock, [arrived if arrived >= 1200 else 0], arrived)
        clock, verdicts = clocks.judge(clock, len(told) % 2 == 1, arrived, "web-1")
        told += [(arrived, each.kind, each.message) for each in verdicts]
    assert told == [
        (740, "over", f"Warning: the clock of web-1 is 12 min behind. {clocks.CONSEQUENCE}"),
        (1200, "recovered", "The clock of web-1 is correct again"),
    ]


@pytest.mark.parametrize(
    ("off", "words"),
    [
        (18_000, "5 h ahead"), (17_999, "5 h ahead"), (-17_971, "5 h behind"), (359, "6 min ahead"),
        (-7_500, "2 h 5 min behind"), (90_000, "1 d 1 h ahead"), (86_399, "1 d ahead"), (172_900, "2 days ahead"),
        (-1_764_000_000, "20417 days behind"),
    ],
)  # fmt: skip
def test_by_how_much_a_clock_is_wrong_is_said_as_exactly_as_people_need(off: float, words: str) -> None:
    assert clocks.describe(off) == words


def test_samples_from_the_future_need_no_second_report() -> None:
    assert skew(reports((0, 360))) == 360


def test_one_sample_from_the_future_among_others_is_not_the_clock() -> None:
    assert clocks.follow(None, [-60, 0, 86_400], 1) is None


def test_older_samples_from_a_wrong_clock_are_older_samples() -> None:
    known = reports((0, -3600), (60, -3540))
    assert skew(known) == -3600
    later = clocks.follow(known, [-4000, -3500], 120)  # some were kept, the newest is 20 s late
    assert skew(later) == -3600
    assert skew(clocks.follow(known, [-9000], 120)) == -3600


def test_a_clock_that_was_set_right_is_right_at_once() -> None:
    for off in (-3600, 360, 7200):
        assert reports((0, off), (60, 60 + off), (120, 120)) is None


def test_a_clock_that_jumped_is_believed_once_it_keeps_its_distance() -> None:
    jumped = reports((0, -3600), (60, -3540), (120, -1680))
    assert skew(jumped) == 0
    assert skew(reports((180, -1620), clock=jumped)) == -1800
    assert skew(reports((0, 360), (60, 60 + 7200))) == 7200


def test_people_are_told_after_ten_minutes_and_again_when_it_is_right() -> None:
    clock, told = None, []
    for arrived in range(0, 1260, 60):
        clock = clocks.follow(clock, [arrived - 18_000.0 if arrived < 1200 else arrived], arrived)
        clock, verdicts = clocks.judge(clock, len(told) % 2 == 1, arrived, "web-1")
        told += [(arrived, each.kind, each.message) for each in verdicts]
    assert told == [
        (600, "over", f"Warning: the clock of web-1 is 5 h behind. {clocks.CONSEQUENCE}"),
        (1200, "recovered", "The clock of web-1 is correct again"),
    ]


# ---------------------------------------------------------------------------------------------------- over the API


async def sent(client: httpx.AsyncClient, off: float, used: float = 99.9) -> Any:
    """A report of a machine whose clock is that many seconds ahead; what was answered."""
    taken = datetime.now(UTC) + timedelta(seconds=off)
    answer = await client.post(URL, json=report(sample("disk_used_b", used, taken), disk_total_bytes=100))
    assert answer.status_code == 201, answer.text
    return answer.json()


@pytest.mark.parametrize("off", [-360, -5 * 3600, -55 * 365 * 86_400])
async def test_a_full_disk_is_told_although_the_clock_is_behind(app_client: httpx.AsyncClient, off: float) -> None:
    await sent(app_client, off)
    told = await sent(app_client, off)
    assert (told["success_count"], told["failure_count"]) == (1, 0)
    assert "behind" in told["warnings"][0]
    assert await ongoing(app_client) == [FULL]
    await sent(app_client, off, used=10)
    assert await ongoing(app_client) == []


@pytest.mark.parametrize("off", [-360, -55 * 365 * 86_400])
async def test_a_full_disk_is_told_although_the_clock_stands_still(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool, off: float
) -> None:
    taken = datetime.now(UTC) + timedelta(seconds=off)
    for used in (10, 99.9):
        await app_client.post(URL, json=report(sample("disk_used_b", used, taken), disk_total_bytes=100))
    assert await ongoing(app_client) == []
    for field in ("arrived", "since"):
        await pool.execute(
            "UPDATE server_states SET clock = jsonb_set(clock, ARRAY[$1], to_jsonb((clock->>$1)::float8 - 700))", field
        )
    answer = await app_client.post(URL, json=report(sample("disk_used_b", 99.9, taken), disk_total_bytes=100))
    assert answer.json()["success_count"] == 1
    assert "This machine's clock is" in answer.json()["warnings"][0]
    told = await ongoing(app_client)
    assert FULL in told
    assert [message.partition(" is ")[0] for _, message in told if "clock" in message] == [
        "Warning: the clock of web-1"
    ]


@pytest.mark.parametrize("off", [360, 5 * 3600, 70 * 365 * 86_400])
async def test_a_full_disk_is_told_although_the_clock_is_ahead(app_client: httpx.AsyncClient, off: float) -> None:
    told = await sent(app_client, off)
    assert (told["success_count"], told["failure_count"]) == (1, 0)
    assert "ahead" in told["warnings"][0]
    assert await ongoing(app_client) == [FULL]
    taken = (await only_server(app_client))["last_metrics"]["disk_used_b"]["timestamp"]
    assert abs(datetime.fromisoformat(taken) - datetime.now(UTC)) < timedelta(minutes=1)


async def test_a_right_clock_is_not_spoken_of(app_client: httpx.AsyncClient) -> None:
    told = [await sent(app_client, off) for off in (0, -30, -600, 0)]
    assert all(each.keys() == {"success_count", "failure_count", "message"} for each in told)


async def test_a_clock_that_was_ahead_and_is_right_again_hides_nothing(app_client: httpx.AsyncClient) -> None:
    for off in (240, 240, 240):
        await sent(app_client, off, used=10)
    await sent(app_client, 0)
    assert await ongoing(app_client) == [FULL]


async def test_a_sample_from_the_future_fails_alone(app_client: httpx.AsyncClient) -> None:
    now = datetime.now(UTC)
    body = report(sample("cpu_used", 5, now), sample("cpu_used", 6, now + timedelta(minutes=6)))
    told = (await app_client.post(URL, json=body)).json()
    assert (told["success_count"], told["failure_count"]) == (1, 1)
    assert told["errors"] == [
        {"field": "metrics[1]", "message": "timestamp must not be more than 5 minutes in the future"}
    ]


async def test_what_was_kept_by_a_wrong_clock_is_stored_once_at_its_right_times(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool
) -> None:
    for _ in range(2):
        await sent(app_client, -7200)
    await pool.execute("DELETE FROM samples")
    behind = datetime.now(UTC) - timedelta(hours=2)
    kept = [sample("cpu_used", 5, behind - timedelta(minutes=minute)) for minute in range(5)]
    for _ in range(2):
        await app_client.post(URL, json=report(*kept))
    rows = await pool.fetch("SELECT at FROM samples ORDER BY at DESC")
    assert len(rows) == 5
    for minute, row in enumerate(rows):
        assert abs(row["at"] - (behind + timedelta(hours=2) - timedelta(minutes=minute))) < timedelta(seconds=35)


async def test_a_clock_that_stays_wrong_is_an_incident_and_said_on_the_page_until_it_is_right(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool
) -> None:
    for _ in range(2):
        await sent(app_client, -18_000, used=10)
    assert await ongoing(app_client) == []
    await pool.execute("UPDATE server_states SET clock = jsonb_set(clock, '{since}', to_jsonb(1000))")
    await sent(app_client, -18_000, used=10)
    [(name, message)] = await ongoing(app_client)
    assert (name, message.partition(".")[0]) == ("web-1", "Warning: the clock of web-1 is 5 h behind")
    await sent(app_client, 0, used=10)
    assert await ongoing(app_client) == []
