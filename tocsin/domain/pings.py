"""What pings say of a heartbeat, and what follows when nothing is said. Pure: times are given.

A start begins a run, and a success or failure ends it: that of the same run ID (`rid`), where there is one, so that
runs may overlap. Without one, there is one run at a time.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

import msgspec

from tocsin.domain import heartbeats as rules
from tocsin.domain import names, requests
from tocsin.domain.heartbeats import FAILED, MISSED, OVERRUN, Schedule, Span

Kind = Literal["success", "fail", "start", "log", "ignored"]

BODY_LIMIT = 100_000
"""Bytes of a body that are kept."""
EACH_MINUTE = 100
"""Pings of a heartbeat in one minute that are each on record; of more, the failures, and how many there were."""
FAILURES_EACH_MINUTE = 1_000
"""Failures of one minute that are each on record. The effect of every single one is."""
MAX_RUNS = 20
"""Runs of a heartbeat that have not ended; of more, the oldest are forgotten."""
UNRELATED = timedelta(hours=72)
"""A start and an end that are so far apart belong to different runs."""
MAX_LINE = 200
MAX_DETAIL = 2_000
"""Characters of the output in an incident's message and in its details."""

IncidentId = tuple[str, str]
"""Type and `dedup_key`."""


class Ping(msgspec.Struct, frozen=True, gc=False):
    """One ping. `key` is a heartbeat's, or with a `slug` its project's; `duration_ms` is what its sender measured."""

    key: str
    slug: str | None
    kind: Kind
    method: str
    exit_status: int | None = None
    rid: str = ""
    body: str = ""
    duration_ms: float | None = None
    create: bool = False
    origin: str | None = msgspec.field(default_factory=requests.current)


@dataclass(slots=True)
class Run:
    """A run that has not ended. `over`: it has taken longer than its grace, and an incident says so."""

    started: datetime
    over: bool = False


@dataclass(slots=True)
class State:
    """A heartbeat's state, while pings are applied to it one after the other."""

    due_at: datetime | None = None
    missed_at: datetime | None = None
    last_ping_at: datetime | None = None
    last_success_at: datetime | None = None
    last_duration_ms: float | None = None
    runs: dict[str, Run] = field(default_factory=dict)
    minute: int = 0
    in_minute: int = 0


@dataclass(frozen=True, slots=True)
class Opens:
    """An incident of this type is to be opened."""

    type: str
    dedup_key: str
    message: str
    details: dict[str, object] | None = None


@dataclass(frozen=True, slots=True)
class Ends:
    """An incident is to be resolved."""

    type: str
    dedup_key: str
    by: str


Step = Opens | Ends


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a ping: whether it is on record itself or gathered, its duration, and what follows."""

    kind: Kind
    recorded: bool
    duration_ms: float | None = None
    steps: Sequence[Step] = ()


def read_runs(stored: Mapping[str, Sequence[float]]) -> dict[str, Run]:
    """Runs as they are stored: when each began, in seconds since 1970, and 1 where it is over its time."""
    return {rid: Run(datetime.fromtimestamp(at, UTC), bool(over)) for rid, (at, over) in stored.items()}


def written_runs(runs: Mapping[str, Run]) -> dict[str, Sequence[float]]:
    return {rid: (run.started.timestamp(), int(run.over)) for rid, run in runs.items()}


def take(
    state: State, ping: Ping, schedule: Schedule, ongoing: set[IncidentId], now: datetime, *, methods: str, paused: bool
) -> Taken:
    """Apply one ping to the state. `ongoing` are the heartbeat's incidents, kept as the steps will leave them."""
    kind = "ignored" if methods == "POST" and ping.method != "POST" else ping.kind
    minute = int(now.timestamp() // 60)
    if minute != state.minute:
        state.minute, state.in_minute = minute, 0
    state.in_minute += 1
    most = FAILURES_EACH_MINUTE if kind == "fail" else EACH_MINUTE
    recorded = state.in_minute <= most
    if kind == "ignored":
        return Taken(kind, recorded)
    state.last_ping_at = now
    if paused or kind == "log":
        return Taken(kind, recorded)
    if kind == "start":
        state.runs[ping.rid] = Run(now)
        while len(state.runs) > MAX_RUNS:
            del state.runs[min(state.runs, key=lambda rid: state.runs[rid].started)]
        return Taken(kind, recorded)
    duration, began = _ended(state, ping, now)
    state.last_duration_ms = duration
    steps = _failure(ping) if kind == "fail" else []
    steps += _ends(state, ping.rid, began, ongoing, whole=kind == "success")
    if kind == "success":
        state.due_at = rules.next_due(schedule, now, state.missed_at or state.due_at)
        state.missed_at, state.last_success_at = None, now
    for step in steps:
        if isinstance(step, Opens):
            ongoing.add((step.type, step.dedup_key))
        else:
            ongoing.discard((step.type, step.dedup_key))
    return Taken(kind, recorded, duration, steps)


def _ended(state: State, ping: Ping, now: datetime) -> tuple[float | None, datetime]:
    """How long the run took, in milliseconds, and when it began: now, where that is not known."""
    run = state.runs.pop(ping.rid, None)
    if ping.duration_ms is not None:
        return ping.duration_ms, run.started if run else now - timedelta(milliseconds=ping.duration_ms)
    if run is None or now - run.started > UNRELATED:
        return None, now
    return (now - run.started).total_seconds() * 1000, run.started


def _failure(ping: Ping) -> list[Step]:
    lines = ping.body.rstrip().rpartition("\n")[2] if ping.body else ""
    message = rules.failed_message(ping.exit_status, names.cut(names.line(lines[: 4 * MAX_LINE]), MAX_LINE))
    details = {
        "exit_status": ping.exit_status, "run": ping.rid or None, "output": ping.body[-MAX_DETAIL:] or None,
    }  # fmt: skip
    return [Opens(FAILED, "", message, {name: value for name, value in details.items() if value is not None})]


def _ends(
    state: State, rid: str, began: datetime, ongoing: Collection[IncidentId], *, whole: bool
) -> list[Step]:
    """What ends with a run: that it took too long; with a success, also what earlier runs left behind."""
    steps: list[Step] = []
    for type_, key in sorted(ongoing):
        if type_ == OVERRUN and key == rid:
            steps.append(Ends(type_, key, "The run has ended"))
        elif whole and type_ == OVERRUN and (key not in state.runs or state.runs[key].started <= began):
            state.runs.pop(key, None)
            steps.append(Ends(type_, key, "A later run has succeeded"))
        elif whole and type_ in (MISSED, FAILED):
            steps.append(Ends(type_, key, "It has reported a success"))
    return steps


def look_at(state: State, schedule: Schedule) -> datetime | None:
    """When to look whether something is late, if no ping comes before; None: never."""
    grace = schedule.grace_time
    waiting = [run.started + grace for run in state.runs.values() if not run.over]
    return rules.earliest([*waiting, state.due_at + grace if state.due_at else None])


def late(state: State, schedule: Schedule, now: datetime) -> bool:
    """Whether something is late, if no time is credited."""
    at = look_at(state, schedule)
    return at is not None and at <= now


def judge(
    state: State, schedule: Schedule, ongoing: set[IncidentId], now: datetime, *,
    credited: Sequence[Span], listening_since: datetime,
) -> tuple[list[Opens], datetime | None]:  # fmt: skip
    """What has been missed or has run for too long, and when to look again; the state is changed accordingly.

    A slot is not missed while a run goes on in its grace, and not besides what is told already: that it failed, or
    that it has run for too long.
    """
    opens, again = [], []
    heard = listening_since + min(schedule.grace_time, rules.LISTENING)

    def until(since: datetime) -> datetime:
        return max(rules.deadline(since, schedule.grace_time, credited), heard)

    for rid, run in state.runs.items():
        if run.over:
            continue
        if (at := until(run.started)) > now:
            again.append(at)
            continue
        run.over = True
        ongoing.add((OVERRUN, rid))
        details: dict[str, object] | None = {"run": rid} if rid else None
        opens.append(Opens(OVERRUN, rid, rules.overrun_message(schedule, run.started, rid), details))
    if state.due_at is not None:
        at = until(state.due_at)
        if at <= now and not any(not run.over for run in state.runs.values()):
            told = {type_ for type_, _ in ongoing}
            if not told & rules.TYPES:
                opens.append(Opens(MISSED, "", rules.missed_message(schedule, state.due_at, state.last_success_at)))
                ongoing.add((MISSED, ""))
            state.missed_at = state.due_at
            state.due_at = rules.following(schedule, state.due_at, now)
            at = state.due_at + schedule.grace_time
        if at > now:
            again.append(at)
    return opens, rules.earliest(again)
