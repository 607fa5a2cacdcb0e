"""How fast a replay goes: faster while the receiver takes everything, one at a time while it does not."""

from __future__ import annotations

import pytest

from tocsin.domain.replays import MAX_AT_ONCE, MAX_PAUSE, pace
from tocsin.engine.destinations import FIRST_CAP


def test_the_number_at_once_grows_with_each_success_up_to_a_limit() -> None:
    step = pace(1, 0, outstanding=0, delivered=0, dead=0, failing=False)
    assert (step.at_once, step.take) == (1, 1)
    step = pace(1, 0, outstanding=0, delivered=1, dead=0, failing=False)
    assert (step.at_once, step.take) == (2, 2)
    step = pace(MAX_AT_ONCE, 0, outstanding=4, delivered=2, dead=0, failing=False)
    assert (step.at_once, step.take) == (MAX_AT_ONCE, MAX_AT_ONCE - 4)


def test_there_is_always_a_place_for_what_is_new() -> None:
    assert MAX_AT_ONCE < FIRST_CAP


def test_a_receiver_that_fails_gets_one_at_a_time() -> None:
    assert pace(5, 0, outstanding=3, delivered=1, dead=0, failing=True).take == 0
    step = pace(5, 0, outstanding=0, delivered=1, dead=0, failing=True)
    assert (step.at_once, step.take) == (1, 1)


@pytest.mark.parametrize(("dead_in_row", "pause"), [(0, 1.0), (1, 2.0), (4, 16.0), (99_999, MAX_PAUSE)])
def test_the_more_end_dead_in_a_row_the_longer_it_waits(dead_in_row: int, pause: float) -> None:
    step = pace(3, dead_in_row, outstanding=0, delivered=0, dead=1, failing=True)
    assert (step.at_once, step.take, step.pause, step.dead_in_row) == (1, 0, pause, dead_in_row + 1)


def test_a_success_makes_up_for_what_ended_dead() -> None:
    assert pace(1, 7, outstanding=0, delivered=1, dead=0, failing=False).dead_in_row == 0
