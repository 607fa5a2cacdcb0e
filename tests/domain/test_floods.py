"""Flood control: how many messages people get one by one, and whom that may hold back."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from tocsin.domain.floods import USUAL, Count, Flood, counted, flooded_until

BEGAN = datetime(2026, 3, 1, 12, tzinfo=UTC)


def alone(flood: Flood, resources: Sequence[str]) -> list[str]:
    """Of whose incidents a message of their own goes out, where all open within a second."""
    count: Count | None = None
    told = []
    for number, resource in enumerate(resources):
        now = BEGAN + timedelta(milliseconds=number)
        if flooded_until(flood, count, resource, now) is None:
            count = counted(flood, count, resource, now)
            told.append(resource)
    return told


def test_the_first_ten_are_never_delayed_and_the_eleventh_waits_for_the_summary() -> None:
    assert alone(USUAL, [f"shop {number}" for number in range(30)]) == [f"shop {number}" for number in range(10)]
    assert alone(USUAL, ["flapping"] * 30) == ["flapping"] * 10


def test_one_that_flaps_holds_back_nobody_else_s_first() -> None:
    assert alone(USUAL, ["flapping"] * 30 + ["router"]) == ["flapping"] * 10 + ["router"]


@given(st.integers(1, 20), st.lists(st.sampled_from("abcdefghijklmnopqrstuvwxyz"), max_size=200))
def test_however_they_come_fewer_than_twice_the_limit_go_out_alone(limit: int, resources: list[str]) -> None:
    assert len(alone(Flood(limit, 300), resources)) < 2 * limit


def test_the_next_span_begins_with_the_first_after_the_last_one() -> None:
    count = counted(USUAL, None, "a", BEGAN)
    over = BEGAN + timedelta(seconds=USUAL.seconds)
    assert flooded_until(USUAL, Count(count.ends_at, {"a": 10}), "a", over) is None
    assert counted(USUAL, count, "b", over).told == {"b": 1}
