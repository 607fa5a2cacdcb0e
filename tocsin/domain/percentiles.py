"""Percentiles of times from histograms that can be added up: counts in buckets that grow by a constant factor. Pure.

Bucket n holds what is over `GROWTH ** (n - 1)` and at most `GROWTH ** n` milliseconds. What is read back is at most
`RELATIVE_ERROR` away from the value that was counted (Masson, Rim, Lee: DDSketch, VLDB 2019).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

RELATIVE_ERROR = 0.04
GROWTH = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
LEAST_MS = 0.01
"""What is less is counted as this much."""


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Milliseconds that half, and 95 of 100, do not exceed."""

    p50: float
    p95: float


def bucket_of(ms: float) -> int:
    """The bucket in which that many milliseconds are counted."""
    return math.ceil(math.log(max(ms, LEAST_MS)) / math.log(GROWTH))


def value_of(bucket: int) -> float:
    """The milliseconds that stand for all in a bucket: as far from its lower end as from its upper one, relatively."""
    return float(2 * GROWTH**bucket / (GROWTH + 1))


def at(counts: Mapping[int, int], quantile: float) -> float | None:
    """The value of the rank `quantile * (n - 1)`, rounded down; None where nothing is counted."""
    rank = math.floor(quantile * (sum(counts.values()) - 1))
    for bucket in sorted(counts):
        rank -= counts[bucket]
        if rank < 0:
            return value_of(bucket)
    return None


def of(counts: Mapping[int, int]) -> Percentiles | None:
    """Of all that is counted; None where that is nothing."""
    p50, p95 = at(counts, 0.5), at(counts, 0.95)
    return None if p50 is None or p95 is None else Percentiles(p50, p95)
