"""Servers: valid samples, and the verdicts on them by a server's alerts. Pure: `now` is given.

CPU, RAM and disk are judged by the samples' own time. A value at or above the threshold is *over*; an incident opens
once it has been over without a break for as long as the alert says, and ends with a sample clearly under it. Between
the two lies a margin in which nothing changes, so that a value on the edge does not flap.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypedDict

from tocsin.domain.incidents import Severity, at_least, format_duration
from tocsin.domain.server_alerts import Alerts, Level, Threshold

METRICS = (
    "cpu_used", "mem_used_b", "disk_used_b", "net_sent_b", "net_recv_b", "pkt_sent", "pkt_recv", "swap_used_b",
    "load_1m", "disk",
)  # fmt: skip
"""`cpu_used` is percent of all cores, `disk` that of the fullest file system, `load_1m` processes; `…_b` are bytes."""

EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
"""Before this, the clock was never set."""
TOO_EARLY = "timestamp must not be before the year 2000"
TOO_LATE = "timestamp must not be more than 5 minutes in the future"
GONE_AFTER = timedelta(days=7)
"""Without a report for so long, a server looks as if it was gone for good: nobody is reminded of it."""
FRESH = 300.0
"""Maximum age in seconds of the newest sample at its arrival for an incident to open."""
MARGIN = 5.0
"""Percentage points that a value must lie under its threshold to count as recovered."""
MAX_GAP = 300.0
"""Seconds between two samples that never break "without a break"; slower agents are allowed twice their usual pace."""

MAX_MOMENT_LENGTH = 64

_KNOWN = frozenset(METRICS)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LEAP = re.compile(r":[0-5][0-9]:(60)").search


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of one metric, with the time at which the agent took it (UTC)."""

    metric: str
    at: datetime
    value: float


def moment(text: object) -> datetime | None:
    """The time that an ISO 8601 text gives, in UTC (also the default zone); None if it is none.

    As in RFC 3339 (5.6), also with `t`, `z`, a space, and a leap second, which is the second after it.
    """
    if not isinstance(text, str) or len(text) > MAX_MOMENT_LENGTH or not ("T" in text or " " in text or "t" in text):
        return None
    try:
        return _utc(datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        pass
    try:
        leap = _LEAP(text)
        whole = f"{text[: leap.start(1)]}59{text[leap.end(1) :]}" if leap else text
        return _utc(datetime.fromisoformat(whole.upper())) + timedelta(seconds=1 if leap else 0)
    except (ValueError, OverflowError):
        return None


def _utc(at: datetime) -> datetime:
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def validate(sample: object) -> Sample | str:
    """The sample, or what is wrong with it, to complete "… is not accepted:".

    Whether its time, and a `cpu_used` over 100, are plausible depends on the server: `domain.reports`.
    """
    if not isinstance(sample, dict):
        return "must be an object with metric, value and timestamp"
    metric, value = sample.get("metric"), sample.get("value")
    if not isinstance(metric, str) or metric not in _KNOWN:
        return f"metric must be one of: {', '.join(METRICS)}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "value must be a number"
    try:
        value = float(value)
    except OverflowError:
        return "value must be a finite number"
    if not math.isfinite(value):
        return "value must be a finite number"
    if value < 0:
        return "value must not be negative"
    if metric == "disk" and value > 100:
        return "value must not be over 100 percent"
    at = moment(sample.get("timestamp"))
    if at is None:
        return "timestamp must be a time such as 2025-05-01T10:00:00Z"
    return Sample(metric, at, value)


# ----------------------------------------------------------------------------------------------------------- verdicts


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a report leads to: `over` opens an incident of `type` with that message, `recovered` resolves it.

    `key` keeps apart what a server can have several of: its file systems, its units. `details` is what else
    belongs to an opening.
    """

    type: str
    kind: Literal["over", "recovered"]
    message: str
    severity: Severity = "critical"
    key: str = ""
    details: Mapping[str, Any] | None = None


class Track(TypedDict, total=False):
    """State of one alert: the latest sample judged, the usual seconds between two, and since when it is over.

    Times are seconds since 1970, so that the state is small JSON.
    """

    at: float
    usual: float
    over_since: float


Watch = dict[str, Track]
Row = tuple[datetime, Mapping[str, float]]
"""The values of one time, by metric."""

_WATCHED = (
    ("cpu", "CPU", "cpu_used"), ("ram", "RAM", "mem_used_b"), ("disk", "Disk", "disk_used_b"),
    ("swap", "Swap", "swap_used_b"), ("load", "Load", "load_1m"),
)  # fmt: skip


def judge(
    watch: Mapping[str, Track],
    samples: Iterable[Row],
    alerts: Alerts,
    totals: Mapping[str, float | None],
    ongoing: Mapping[str, Severity],
    now: datetime,
    name: str,
) -> tuple[Watch, list[Verdict]]:
    """Judge the samples of one report. Returns the new state, and at most one verdict for each alert.

    `samples` are in order of time. `totals` are what a value is percent of (bytes; cores for `load`); without one, that
    alert is not judged. `ongoing` are the types of incident that are ongoing, with their severity, `now` is when the
    report arrived, and `name` is what people call the server. Where an alert has a warning level, it recovers below
    that.

    Samples that are not newer than the latest judged one change nothing, and a report whose newest sample is older than
    `FRESH` opens nothing. While an incident is ongoing, the time over the threshold is not counted; after it was
    resolved by hand the count starts over.
    """
    rows = list(samples)
    followed: Watch = {}
    verdicts = []
    for kind, label, metric in _WATCHED:
        alert: Threshold | None = alerts.get(kind)  # type: ignore[assignment]
        total = 100.0 if kind == "cpu" else totals.get(kind)
        if alert is None:
            continue
        series = [(at, 100.0 * values[metric] / total) for at, values in rows if metric in values] if total else []
        states, verdict = judge_series(watch, series, alert, kind, label, ongoing.get(kind), now, name)
        followed |= states
        if verdict:
            verdicts.append(verdict)
    return followed, verdicts


def judge_series(
    watch: Mapping[str, Track],
    series: list[tuple[datetime, float]],
    alert: Threshold,
    kind: str,
    label: str,
    lasting: Severity | None,
    now: datetime,
    name: str,
    key: str = "",
) -> tuple[Watch, Verdict | None]:
    """Judge percentages by one alert, with its levels: as `judge`. `lasting` is how bad what is ongoing is.

    `key` keeps apart what several are judged by the same alert.
    """
    arrived = (now - _EPOCH).total_seconds()
    followed: Watch = {}
    verdict = None
    for level_name, severity, level in _levels(kind, alert):
        state = f"{level_name}:{key}" if key else level_name
        track = watch.get(state, {})
        if not series:
            if track:
                followed[state] = track
            continue
        settled = lasting is not None and at_least(lasting, severity)
        followed[state], found = _follow(
            track, series, level, kind, label, name, severity, lasting is not None, settled, arrived
        )
        if found is not None and (found.kind == "over" or level_name != kind or "warning" not in alert):
            verdict = found if verdict is None or found.severity == "critical" else verdict
    return followed, replace(verdict, key=key) if verdict and key else verdict


def _levels(kind: str, alert: Threshold) -> Iterator[tuple[str, Severity, Level]]:
    """The levels of an alert, the warning first: the name of its state, and what it opens."""
    if "warning" in alert:
        yield f"{kind}.warning", "warning", alert["warning"]
    yield kind, "critical", alert


def _follow(
    track: Track,
    series: list[tuple[datetime, float]],
    alert: Level,
    kind: str,
    label: str,
    name: str,
    severity: Severity,
    lasting: bool,
    settled: bool,
    arrived: float,
) -> tuple[Track, Verdict | None]:
    """`lasting`: an incident is ongoing; `settled`: it is so bad already."""
    threshold = alert["threshold"]
    enough_under = recovery_level(threshold)
    at, usual = track.get("at", -math.inf), track.get("usual", 0.0)
    since = None if settled else track.get("over_since")
    recovered = False
    percent = None
    for time, value in series:
        taken = (time - _EPOCH).total_seconds()
        if taken <= at:
            continue
        if at > -math.inf:
            gap = taken - at
            if gap > max(MAX_GAP, 2 * usual):
                since = None
            # One long gap must not count as the usual interval, so this at most doubles.
            usual = min(gap, 2 * usual) if usual else gap
        at, percent = taken, value
        if value < threshold:
            since = None
        elif since is None:
            since = taken
        recovered = recovered or value <= enough_under
    verdict = None
    if percent is not None:
        overdue = since is not None and at - since >= alert["for"] and arrived - at <= FRESH
        facts = f"{label} at {round(percent, 1):g} %"
        limit = f" on {name} (threshold {threshold:g} %)"
        if since is not None and overdue and not settled:
            stretch = f" for {format_duration(at - since)}" if at > since else ""
            verdict = Verdict(kind, "over", facts + stretch + limit, severity)
            since = None
        elif lasting and recovered and not overdue:
            verdict = Verdict(kind, "recovered", facts + limit, severity)
        elif settled:
            since = None
    new: Track = {"at": at, "usual": usual}
    if since is not None:
        new["over_since"] = since
    return new, verdict


def recovery_level(threshold: float) -> float:
    """The highest percentage that counts as recovered. If the margin does not fit, half the threshold."""
    return threshold - MARGIN if threshold > MARGIN else threshold / 2


def start_anew(watch: Mapping[str, Track]) -> Watch:
    """The state without the counts of alerts that have changed."""
    return {kind: {"at": track["at"], "usual": track.get("usual", 0.0)} for kind, track in watch.items()}


def downtime_message(after: float) -> str:
    return f"No report for {format_duration(after)}"

