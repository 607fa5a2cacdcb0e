"""The objective for first tries: how it is written, and when it is not met."""

from __future__ import annotations

import pytest

from tocsin.domain.punctuality import Objective, objective
from tocsin.domain.settings import Unusable


def test_an_objective_is_a_share_a_time_and_a_window() -> None:
    assert objective("99% 5s 30m") == Objective(0.99, 5, 1800)
    assert objective("75.5%  0.5s 2h") == Objective(0.755, 0.5, 7200)
    assert objective("off") is None
    assert objective("99% 5s 30m").part == 60  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "value", ["99 5s 30m", "0% 5s 30m", "100% 5s 30m", "99% 5s 5s", "99% 5s 25h", "99% 0s 30m", "99% 5s", "on", "٩% 5s"]
)
def test_what_cannot_be_an_objective_is_refused_by_the_name_of_the_setting(value: str) -> None:
    with pytest.raises(Unusable, match=r"^TOCSIN_SLO: is .* such as 99% 5s 30m, or off$"):
        objective(value)


@pytest.mark.parametrize(
    ("tries", "late", "breached"),
    [(0, 0, False), (9, 9, False), (10, 0, False), (10, 1, True), (100, 1, False), (100, 2, True), (1000, 10, False)],
)
def test_few_deliveries_are_no_measure_and_so_many_may_be_late_as_the_share_leaves(
    tries: int, late: int, breached: bool
) -> None:
    assert Objective(0.99, 5, 1800).breached(tries, late) is breached


def test_a_breach_is_said_in_numbers() -> None:
    assert Objective(0.99, 5, 1800).message(300, 12) == (
        "12 of 300 deliveries of the last 30 min were first tried later than 5 s after they were due. "
        "The objective is that 99 % are in time."
    )
