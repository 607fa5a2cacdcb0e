"""Servers: valid samples, a server's alerts, and the verdicts on its samples. Pure: `now` is given.

CPU, RAM and disk are judged by the samples' own time. A value at or above the threshold is *over*; an incident opens
once it has been over without a break for as long as the alert says, and ends with a sample clearly under it. Between
the two lies a margin in which nothing changes, so that a value on the edge does not flap.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypedDict

from tocsin.domain.errors import Detail, invalid, invalid_field
from tocsin.domain.incidents import Severity, at_least, format_duration

METRICS = ("cpu_used", "mem_used_b", "disk_used_b", "net_sent_b", "net_recv_b", "pkt_sent", "pkt_recv")

EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
"""Before this, the clock was never set."""
TOO_EARLY = "timestamp must not be before the year 2000"
TOO_LATE = "timestamp must not be more than 5 minutes in the future"
FRESH = 300.0
"""Maximum age in seconds of the newest sample at its arrival for an incident to open."""
MARGIN = 5.0
"""Percentage points that a value must lie under its threshold to count as recovered."""
MAX_GAP = 300.0
"""Seconds between two samples that never break "without a break"; slower agents are allowed twice their usual pace."""

DEFAULT_AFTER = 180
MAX_FOR = 86_400
MIN_AFTER = 5
MAX_AFTER = 30 * 86_400

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
    at = moment(sample.get("timestamp"))
    if at is None:
        return "timestamp must be a time such as 2025-05-01T10:00:00Z"
    return Sample(metric, at, value)


# ------------------------------------------------------------------------------------------------------------- alerts


class Level(TypedDict("Level", {"threshold": float, "for": float})):
    """Percent from which on a value is over, and the seconds that it must stay there."""


class Threshold(Level, total=False):
    """A level, and below it another that is only a warning."""

    warning: Level


class Downtime(TypedDict):
    """Seconds without a report after which a server counts as down."""

    after: float


class Alerts(TypedDict):
    """The alerts of one server, as they are stored and shown; None means off."""

    cpu: Threshold | None
    ram: Threshold | None
    disk: Threshold | None
    downtime: Downtime | None


def default_alerts() -> Alerts:
    return {
        "cpu": {"threshold": 90, "for": 300},
        "ram": {"threshold": 90, "for": 300},
        "disk": {"threshold": 90, "for": 0},
        "downtime": {"after": DEFAULT_AFTER},
    }


def change_alerts(current: Alerts, given: object) -> Alerts:
    """The alerts after a change. Alerts that are not named stay; null switches one off; unknown names are ignored.

    Raises `Refused` (422) naming each field as `alerts.<type>.<field>`.
    """
    if not isinstance(given, dict):
        raise invalid_field("alerts", "must be an object")
    problems: list[Detail] = []
    changed: dict[str, Any] = dict(current)
    for kind, default in default_alerts().items():
        if kind not in given:
            continue
        wanted = given[kind]
        if wanted is None:
            changed[kind] = None
        elif not isinstance(wanted, dict):
            problems.append(Detail(f"alerts.{kind}", "must be an object, or null to switch it off"))
        else:
            assert isinstance(default, dict)
            before = changed[kind] or default
            merged = {field: wanted.get(field, before[field]) for field in default}
            problems += _problems(kind, merged)
            changed[kind] = {field: _whole(value) for field, value in merged.items()}
            if "threshold" in default:
                warning = wanted.get("warning", before.get("warning"))
                problems += _set_warning(changed[kind], kind, warning)
    if problems:
        raise invalid(f"{problems[0].field} {problems[0].message}", *problems)
    return changed  # type: ignore[return-value]


def _set_warning(alert: dict[str, Any], kind: str, wanted: object) -> list[Detail]:
    """Set the level that is only a warning; None is none. Returns what is wrong with it."""
    field = f"alerts.{kind}.warning"
    if wanted is None:
        return []
    if not isinstance(wanted, dict):
        return [Detail(field, "must be an object, or null for none")]
    level = {name: wanted.get(name, alert[name]) for name in ("threshold", "for")}
    problems = _problems(f"{kind}.warning", level)
    if not problems and isinstance(alert["threshold"], int | float) and level["threshold"] >= alert["threshold"]:
        problems = [Detail(f"{field}.threshold", f"must be below the threshold, {alert['threshold']:g}")]
    alert["warning"] = {name: _whole(value) for name, value in level.items()}
    return problems


def _whole(value: Any) -> Any:
    """90 for 90.0: people see it as they wrote it."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


_RANGES = {
    "threshold": (0, 100, "must be a percentage above 0, at most 100"),
    "for": (0, MAX_FOR, f"must be seconds from 0 to {MAX_FOR}"),
    "after": (MIN_AFTER, MAX_AFTER, f"must be seconds from {MIN_AFTER} to {MAX_AFTER}"),
}


def _problems(kind: str, alert: Mapping[str, object]) -> list[Detail]:
    found = []
    for field, value in alert.items():
        least, most, message = _RANGES[field]
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not least <= value <= most or (field == "threshold" and value == 0):  # type: ignore[operator]
            found.append(Detail(f"alerts.{kind}.{field}", message))
    return found


# ----------------------------------------------------------------------------------------------------------- verdicts


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a report leads to: `over` opens an incident of `type` with that message, `recovered` resolves it."""

    type: str
    kind: Literal["over", "recovered"]
    message: str
    severity: Severity = "critical"


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

_WATCHED = (("cpu", "CPU", "cpu_used"), ("ram", "RAM", "mem_used_b"), ("disk", "Disk", "disk_used_b"))


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

    `samples` are in order of time. `totals` are the bytes that `ram` and `disk` are percent of; without one, that alert
    is not judged. `ongoing` are the types of incident that are ongoing, with their severity, `now` is when the report
    arrived, and `name` is what people call the server. Where an alert has a warning level, it recovers below that.

    Samples that are not newer than the latest judged one change nothing, and a report whose newest sample is older than
    `FRESH` opens nothing. While an incident is ongoing, the time over the threshold is not counted; after it was
    resolved by hand the count starts over.
    """
    rows = list(samples)
    arrived = (now - _EPOCH).total_seconds()
    followed: Watch = {}
    verdicts = []
    for kind, label, metric in _WATCHED:
        alert: Threshold | None = alerts[kind]  # type: ignore[literal-required]
        total = 100.0 if kind == "cpu" else totals.get(kind)
        if alert is None:
            continue
        series = [(at, 100.0 * values[metric] / total) for at, values in rows if metric in values] if total else []
        verdict = None
        for state, severity, level in _levels(kind, alert):
            track = watch.get(state, {})
            if not series:
                if track:
                    followed[state] = track
                continue
            lasting = ongoing.get(kind)
            settled = lasting is not None and at_least(lasting, severity)
            followed[state], found = _follow(
                track, series, level, kind, label, name, severity, lasting is not None, settled, arrived
            )
            if found is not None and (found.kind == "over" or state != kind or "warning" not in alert):
                verdict = found if verdict is None or found.severity == "critical" else verdict
        if verdict:
            verdicts.append(verdict)
    return followed, verdicts


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

