"""Percentiles of times from histograms, beside those of the times themselves."""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest

from tocsin.domain import percentiles


@pytest.mark.parametrize("count", [1, 2, 19, 20, 21, 1_000])
@pytest.mark.parametrize("spread", [0.0, 0.5, 2.0])
def test_they_are_within_the_relative_error_of_the_real_ones(count: int, spread: float) -> None:
    chance = random.Random(count)
    times = sorted(chance.lognormvariate(math.log(80), spread) for _ in range(count))
    counts = Counter(map(percentiles.bucket_of, times))
    for quantile in (0.0, 0.5, 0.95, 1.0):
        real = times[math.floor(quantile * (count - 1))]
        assert percentiles.at(counts, quantile) == pytest.approx(real, rel=percentiles.RELATIVE_ERROR + 1e-9)


def test_every_time_that_a_check_can_take_has_a_bucket_of_16_bits() -> None:
    buckets = [percentiles.bucket_of(ms) for ms in (0.0, 1e-9, 0.01, 1.0, 120_000.0, 1e9)]
    assert buckets == sorted(buckets)
    assert all(-(1 << 15) <= bucket < 1 << 15 for bucket in buckets)
    assert percentiles.value_of(percentiles.bucket_of(0.0)) == pytest.approx(0.01, rel=percentiles.RELATIVE_ERROR)


def test_nothing_counted_has_none() -> None:
    assert percentiles.of({}) is None
    assert percentiles.at({}, 0.5) is None
