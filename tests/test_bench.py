"""The benchmark's own honesty: what it counts, and what it calls met."""

from __future__ import annotations

import pytest

from bench import load
from bench.figures import Figure, at_least_of_peer, at_most, percentile, shown
from bench.load import Load
from bench.receiver import Receiver


def test_percentiles_are_values_that_were_measured() -> None:
    values = [float(number) for number in range(1, 101)]
    assert percentile(values, 0.5) == 50
    assert percentile(values, 0.99) == 99
    assert percentile([7.0], 0.99) == 7


def test_a_goal_against_a_peer_that_is_not_installed_is_neither_met_nor_missed() -> None:
    goal = at_least_of_peer(0.7)
    assert Figure("rate", 70, "/s", peer=100, peer_name="peer", goal=goal).met is True
    assert Figure("rate", 69, "/s", peer=100, peer_name="peer", goal=goal).met is False
    alone = Figure("rate", 70, "/s", peer_name="peer", goal=goal)
    assert alone.met is None
    assert "not installed" in alone.row()


def test_what_is_lost_is_a_missed_goal() -> None:
    assert Figure("lost", 1, "", goal=at_most(0)).met is False


@pytest.mark.parametrize(("value", "text"), [(12345.6, "12,346"), (321, "321"), (12.34, "12.3"), (0.1234, "0.123")])
def test_figures_are_shown_with_three_digits_that_count(value: float, text: str) -> None:
    assert shown(value) == text


def test_every_arrival_is_counted_and_a_repeat_is_not_a_second_one() -> None:
    receiver, generator = Receiver(), Load()
    try:
        bodies = [b'{"incident_type":"bench_%d"}' % (number % 50) for number in range(60)]
        bodies += [b'{"incident_type":"bench_1","incident_status":"resolved"}']
        sent = generator.send(receiver.port, [load.request("POST", "/", body) for body in bodies], connections=4)
        arrivals = receiver.wait(51, 10)
        assert sent.must_be(200).took > 0
        assert (len(arrivals.opened), len(arrivals.resolved), arrivals.repeated) == (50, 1, 10)
        receiver.reset()
        assert receiver.wait(1, 0.05).opened == {}
    finally:
        receiver.close()
        generator.close()
