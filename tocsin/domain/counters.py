"""What the engines count: collected in the process, stored every few seconds, exported by `/metrics`."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass
from functools import cached_property

CounterKey = tuple[str, tuple[str, ...]]
"""What is counted, and the values of its labels; of a histogram, the last is the bucket's upper bound, or `SUM`."""

SUM = "sum"
LARGEST = "+Inf"

_FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class CounterSpec:
    """A value that only grows, by type and outcome."""

    help: str
    outcomes: tuple[str, ...]
    labels: tuple[str, ...] = ("type", "outcome")


@dataclass(frozen=True)
class HistogramSpec:
    """Durations in seconds, by buckets with these upper bounds."""

    help: str
    labels: tuple[str, ...]
    bounds: tuple[float, ...]

    @cached_property
    def buckets(self) -> tuple[str, ...]:
        """Labels of the buckets, the unbounded one last."""
        return *map(str, self.bounds), LARGEST


COUNTERS = {
    "deliveries": CounterSpec("Finished deliveries", ("delivered", "dead", "suppressed")),
    "attempts": CounterSpec("Attempts to deliver", ("delivered", "failed", "suppressed", "interrupted")),
    "checks": CounterSpec("Checks of network monitors", ("ok", "failed")),
}
HISTOGRAMS = {
    "attempt_seconds": HistogramSpec("Duration of one attempt", ("type",), _FAST),
    "delivery_seconds": HistogramSpec(
        "From the commit of an incident to its delivery", ("type",), (*_FAST, 30.0, 120.0, 600.0, 3600.0, 14_400.0)
    ),
}


class Counters:
    """What one process has counted since the last `flush`."""

    def __init__(self) -> None:
        self._values: Counter[CounterKey] = Counter()
        self._observed: dict[tuple[str, tuple[str, ...]], list[float]] = {}

    def count(self, name: str, *labels: str) -> None:
        """Add one to `COUNTERS[name]`."""
        self._values[name, labels] += 1

    def observe(self, name: str, seconds: float, *labels: str) -> None:
        """Add a duration to `HISTOGRAMS[name]`."""
        bounds = HISTOGRAMS[name].bounds
        observed = self._observed.get((name, labels))
        if observed is None:
            observed = self._observed[name, labels] = [0.0] * (len(bounds) + 2)  # its buckets, and the sum
        observed[bisect_left(bounds, seconds)] += 1
        observed[-1] += seconds

    def flush(self) -> dict[CounterKey, float]:
        """Everything counted so far; resets the counters."""
        taken: dict[CounterKey, float] = dict(self._values)
        for (name, labels), observed in self._observed.items():
            for bucket, counted in zip((*HISTOGRAMS[name].buckets, SUM), observed, strict=True):
                if counted:
                    taken[name, (*labels, bucket)] = taken.get((name, (*labels, bucket)), 0.0) + counted
        self._values, self._observed = Counter(), {}
        return taken

    def restore(self, counts: dict[CounterKey, float]) -> None:
        """Add back what was flushed and could not be stored."""
        self._values.update(counts)
