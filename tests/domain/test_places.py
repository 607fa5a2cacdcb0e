"""What several places see, and what follows from it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as some

from tocsin.domain import places
from tocsin.domain.errors import Refused
from tocsin.domain.places import Down, Rules, Up, Vote, verdict

NOW = datetime(2026, 1, 1, tzinfo=UTC)
RULES = Rules(places=3, interval=60, timeout=10, confirmations=2, recoveries=1)


def bad(place: str, times: int = 1, problem: str = "timeout", age: float = 0) -> Vote:
    return Vote(place, NOW - timedelta(seconds=age), times, 0, problem, f"{problem} seen from {place}")


def good(place: str, times: int = 1, age: float = 0) -> Vote:
    return Vote(place, NOW - timedelta(seconds=age), 0, times)


@some.composite
def votes(draw: some.DrawFn) -> list[Vote]:
    count = draw(some.integers(0, 8))
    return [
        Vote(
            f"p{number}", NOW - timedelta(seconds=draw(some.integers(0, 400))), *((times, 0) if fails else (0, times)),
            draw(some.sampled_from(["timeout", "dns_error"])) if fails else None, "why",
        )
        for number in range(count)
        for fails, times in [(draw(some.booleans()), draw(some.integers(1, 4)))]
    ]


def alive(given: list[Vote]) -> list[Vote]:
    return [each for each in given if NOW - each.heard_at <= timedelta(seconds=190)]


def rules_of(given: list[Vote], **fields: int) -> Rules:
    fields = {"confirmations": 2, "recoveries": 1, **fields}
    return Rules(places=max(1, len(given)), interval=60, timeout=10, **fields)


@given(votes(), some.integers(1, 6), some.integers(1, 6))
def test_a_verdict_has_more_than_half_of_the_living_places_behind_it(
    seen: list[Vote], confirmations: int, recoveries: int
) -> None:
    found = verdict(seen, rules_of(seen, confirmations=confirmations, recoveries=recoveries), NOW)
    if found is None:
        return
    assert 2 * len(found.voices) > len(alive(seen)) == found.living
    assert all(each.ok is isinstance(found, Up) for each in found.voices)
    assert set(found.voices) <= set(alive(seen))
    assert found.in_a_row >= (confirmations if isinstance(found, Down) else recoveries)


@given(votes())
def test_one_living_place_of_several_decides_nothing(seen: list[Vote]) -> None:
    if len(seen) >= 2 and len(alive(seen)) < 2:
        assert verdict(seen, rules_of(seen, confirmations=1), NOW) is None


@given(some.data())
def test_the_order_in_which_places_are_named_changes_no_verdict(data: some.DataObject) -> None:
    seen = data.draw(votes())
    other = data.draw(some.permutations(seen))
    one, two = verdict(seen, rules_of(seen), NOW), verdict(other, rules_of(other), NOW)
    assert type(one) is type(two)
    if one and two:
        assert set(one.voices) == set(two.voices)


@given(votes())
def test_bad_and_good_are_judged_alike(seen: list[Vote]) -> None:
    rules = rules_of(seen, confirmations=2, recoveries=2)
    mirrored = [
        Vote(each.place, each.heard_at, each.successes, each.failures, "timeout" if each.ok else None) for each in seen
    ]
    one, two = verdict(seen, rules, NOW), verdict(mirrored, rules, NOW)
    assert isinstance(one, Down) is isinstance(two, Up)
    assert isinstance(one, Up) is isinstance(two, Down)


@given(votes())
def test_places_that_are_silent_have_no_voice(seen: list[Vote]) -> None:
    rules = rules_of(seen)
    rest = verdict(alive(seen), rules, NOW)
    assert verdict(seen, rules, NOW) == rest


@given(votes())
def test_another_place_that_agrees_never_takes_a_verdict_back(seen: list[Vote]) -> None:
    found = verdict(seen, rules_of(seen), NOW)
    if found is not None:
        more = [*seen, bad("more") if isinstance(found, Down) else good("more")]
        assert type(verdict(more, rules_of(more), NOW)) is type(found)


def test_two_of_three_places_that_fail_once_confirm_each_other() -> None:
    found = verdict([bad("wien"), good("graz"), bad("here")], RULES, NOW)
    assert isinstance(found, Down)
    assert found.message == "From 2 of 3 places (wien, here): timeout seen from wien"


def test_half_is_no_majority() -> None:
    assert verdict([bad("a", 9), bad("b", 9), good("c", 9), good("d", 9)], RULES, NOW) is None


def test_the_problem_is_the_one_that_most_see_and_among_equals_the_first_places() -> None:
    seen = [bad("a", problem="dns_error"), bad("b"), bad("c"), good("d")]
    found = verdict(seen, RULES, NOW)
    assert isinstance(found, Down)
    assert (found.speaker.place, found.speaker.problem) == ("b", "timeout")
    found = verdict([bad("a", problem="dns_error"), bad("b")], RULES, NOW)
    assert isinstance(found, Down)
    assert found.speaker.place == "a"


def test_a_single_place_decides_alone_where_only_that_one_is_asked() -> None:
    rules = Rules(places=1, interval=60, timeout=10, confirmations=2, recoveries=1)
    assert verdict([bad("wien")], rules, NOW) is None
    found = verdict([bad("wien", 2)], rules, NOW)
    assert isinstance(found, Down)
    assert found.message == "From wien: timeout seen from wien"
    found = verdict([bad("here", 2)], rules, NOW)
    assert isinstance(found, Down)
    assert found.message == "timeout seen from here"


def test_a_place_lives_for_three_intervals_and_its_timeout() -> None:
    assert verdict([bad("a", age=190), bad("b", age=190)], RULES, NOW) is not None
    assert verdict([bad("a", age=190), bad("b", age=191)], RULES, NOW) is None


def test_rounds_are_numbered_by_the_clock() -> None:
    assert places.round_at(datetime.fromtimestamp(119.9, UTC), 60) == 1
    assert places.round_at(datetime.fromtimestamp(120.0, UTC), 60) == 2
    assert not places.is_late(NOW - timedelta(seconds=180), 60, NOW)
    assert places.is_late(NOW - timedelta(seconds=181), 60, NOW)


@pytest.mark.parametrize(
    ("locations", "why"),
    [
        ([], "must be null or 1 to 20 places; there are: here, graz, wien"),
        (["wien", "prag"], "no place prag; there are: here, graz, wien"),
        (["wien", "wien"], "must name wien only once"),
        (["\x1b[31m"], "no place this one; there are: here, graz, wien"),
    ],
)
def test_locations_are_refused_with_the_names_that_there_are(locations: list[str], why: str) -> None:
    with pytest.raises(Refused, match="locations") as refused:
        places.checked(locations, {"wien", "graz"})
    assert refused.value.details[0].message == why


def test_locations_keep_the_order_in_which_they_were_given() -> None:
    assert places.checked(["wien", "here", "graz"], {"wien", "graz"}) == ("wien", "here", "graz")
    assert places.checked(["here"], ()) == ("here",)


@pytest.mark.parametrize("name", ["", "here", "HERE", "-a", ".", "a b", "é", "a" * 51, "a\n"])
def test_a_place_has_a_plain_name(name: str) -> None:
    with pytest.raises(Refused):
        places.checked_name(name)
    assert places.checked_name("Wien-1.example_x") == "wien-1.example_x"
