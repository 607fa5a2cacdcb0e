"""Who is told of an incident, when, and why not: the one decision that everything else asks for. Pure: `now` is given.

It is made when an incident opens, when a turn has come, when something that a turn waits for has changed, and for
the question what would happen (`plan`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec

from tocsin.domain import hours, on_call
from tocsin.domain.attachments import Attachment
from tocsin.domain.dependencies import REACHABILITY
from tocsin.domain.flapping import REASON, Flapping
from tocsin.domain.incidents import DRILL, at_least, format_duration
from tocsin.domain.silences import ScopedSpan

ASKING = timedelta(seconds=5)
"""How long an opening waits at most for the verdict on what its resource depends on."""

GONE = "its server has not reported for 7 days"
GONE_LOOK = timedelta(days=1)
"""A server that reports again after all is reminded of within this time."""
LOOK_AGAIN, LOOK_AGAIN_AT_MOST = timedelta(seconds=30), timedelta(minutes=2)
"""When a decision is made anew although nothing is known to have changed, where it waits for no moment: after a tenth
of the time that the incident has lasted, within these bounds.
"""

MAX_STEPS = 1_000
"""Silences and hours that one turn is moved past at most."""

BEHIND = "behind "
HAND_OVER = "the hand-over at "
"""How reasons begin of what waits for a parent, and for the next on duty."""

ITS_TURN = "its turn is at "
"""How reasons begin of what waits for its `after` only."""

NOBODY_ON_CALL = "nobody on call"


class Candidate(msgspec.Struct, frozen=True, gc=False):
    """An integration of the incident's project, as it stands now.

    `disabled` (since when, and why) and `blocked` say why nothing can be sent there. An on-call integration has a
    `schedule`. `flooded_until` is when its next summary goes out, if it has been sent so much that this incident
    belongs into it.
    """

    id: UUID
    name: str
    repeatable: bool = True
    disabled: str | None = None
    blocked: str | None = None
    attachment: Attachment | None = None
    schedule: on_call.Schedule | None = None
    flooded_until: datetime | None = None

    @property
    def unusable(self) -> str | None:
        return f"integration disabled {self.disabled}" if self.disabled is not None else self.blocked


class Parents(msgspec.Struct, frozen=True, gc=False):
    """What is known of the resources that the incident's one depends on: the `names` that are asked for or down.

    `settling`: they are well again, but the resource itself has not been checked twice since; it will be by `until`.
    """

    state: Literal["asked", "down", "settling"]
    names: tuple[str, ...] = ()
    until: datetime | None = None


class Occasion(msgspec.Struct, frozen=True, gc=False):
    """The incident, as it stands now. `told` are the integrations that were told of it.

    `explained` are the names of resources that are down because of it, told with it. `flapping` is how its resource
    flaps, or did the last time, if another incident said so before. `gone`: its server looks as if it was gone.
    """

    type: str
    severity: str
    began_at: datetime
    acknowledged_by: str | None = None
    snooze_until: datetime | None = None
    told: Collection[UUID] = frozenset()
    parents: Parents | None = None
    explained: tuple[str, ...] = ()
    flapping: Flapping | None = None
    gone: bool = False

    @property
    def quiet_until(self) -> datetime:
        """Nobody is told before."""
        steady_at = self.began_at if self.flapping is None else self.flapping.steady_at
        return max(steady_at, self.snooze_until or steady_at)


class Tell(msgspec.Struct, frozen=True, gc=False):
    """Tell `to` now; for an on-call integration, whoever is on duty. `note` is said beside the incident's message."""

    to: UUID
    note: str | None = None


class Wait(msgspec.Struct, frozen=True, gc=False):
    """Decide again at `until`, or (None) when what it waits for has happened. With `summary`, `to` is told in one."""

    until: datetime | None
    reason: str
    summary: bool = False
    to: UUID | None = None


class Never(msgspec.Struct, frozen=True, gc=False):
    """It is not told, for that reason."""

    reason: str


Decision = Tell | Wait | Never
Telling = Literal["opened", "reminder"]


def decide(
    telling: Telling,
    to: Candidate,
    occasion: Occasion,
    everybody: Mapping[UUID, Candidate],
    silences: Sequence[ScopedSpan],
    now: datetime,
    waited_for: str = "",
) -> Decision:
    """Whether this integration is told of the incident now.

    `everybody` has the candidates that on-call schedules name; `silences` are the spans over the incident's resource
    from its beginning to the turn at least. `waited_for` is the reason of the decision before.
    """
    again = telling == "reminder" or waited_for.startswith(HAND_OVER)
    refusal = _never(telling, to, occasion, again)
    if refusal is not None:
        return refusal
    if telling == "reminder" and occasion.gone:
        return Wait(now + GONE_LOOK, GONE)
    spans = [each for each in silences if each.silences(to.id, occasion.type, occasion.severity)]
    due, reason = turn(to.attachment or Attachment(), occasion, spans, now, again=again)
    if due > now:
        return Wait(due, reason)
    waiting = _behind(occasion, now)
    if waiting is not None:
        return waiting
    if to.schedule is None:
        return _tell(telling, to, occasion, spans, now, waited_for)
    return _tell_on_duty(telling, to, to.schedule, occasion, everybody, silences, spans, now, waited_for)


def look_again(began_at: datetime, now: datetime) -> datetime:
    """When to decide again about what waits for no moment: many may wait, behind one that is down for long."""
    return now + min(max((now - began_at) / 10, LOOK_AGAIN), LOOK_AGAIN_AT_MOST)


def members(schedule: on_call.Schedule | None) -> frozenset[UUID]:
    """Whoever may be on duty."""
    if schedule is None:
        return frozenset()
    return frozenset([*schedule.integrations, *(each.integration for each in schedule.overrides)])


def _never(telling: Telling, to: Candidate, occasion: Occasion, again: bool) -> Never | None:
    attachment = to.attachment
    if attachment is None:
        return Never("not attached")
    if to.unusable is not None:
        return Never(to.unusable)
    drill = occasion.type == DRILL
    if drill and not to.repeatable:
        return Never("a drill restarts nothing")
    if not drill and attachment.incident_types is not None and occasion.type not in attachment.incident_types:
        return Never(f"only {', '.join(attachment.incident_types)}")
    if attachment.severity is not None and not at_least(occasion.severity, attachment.severity):
        return Never(f"only {attachment.severity}{'' if attachment.severity == 'critical' else ' or worse'}")
    if telling == "opened" and to.id in occasion.told:
        return Never("told already")
    if telling == "reminder" and not to.repeatable:
        return Never("this is never repeated")
    if occasion.acknowledged_by is not None and not (again and telling == "opened"):
        return Never(f"acknowledged by {occasion.acknowledged_by} before its turn")
    return None


def turn(
    attachment: Attachment, occasion: Occasion, silences: Sequence[ScopedSpan], now: datetime, *, again: bool = False
) -> tuple[datetime, str]:
    """The moment at which it is to be told, with the reason why not before. `again`: it has been told before.

    `after` counts from the end of the silence in which it began; later ones, hours and a snooze only put it off.
    """
    base, wait = (now, timedelta()) if again else (occasion.began_at, timedelta(seconds=attachment.after))
    while (silence := _covering(silences, base)) is not None:
        base = silence.ends_at
    due = max(base + wait, occasion.quiet_until)
    for _ in range(MAX_STEPS):
        if attachment.hours is not None:
            due = hours.next_open(attachment.hours, due)
        silence = _covering(silences, due)
        if silence is None:
            break
        due = silence.ends_at
    return due, _reason(occasion, silences, now, base + wait, due)


def _covering(silences: Iterable[ScopedSpan], at: datetime) -> ScopedSpan | None:
    """The silence that lasts at that moment; of several, the one that ends last."""
    return max((each for each in silences if each.starts_at <= at < each.ends_at), key=_end, default=None)


def _end(span: ScopedSpan) -> datetime:
    return span.ends_at


def _reason(
    occasion: Occasion, silences: Sequence[ScopedSpan], now: datetime, counted: datetime, due: datetime
) -> str:
    active = _covering(silences, now)
    if active is not None:
        return f'silence "{active.name}" until {_moment(active.ends_at)}'
    if occasion.snooze_until is not None and occasion.snooze_until > now:
        return f"snoozed until {_moment(occasion.snooze_until)}"
    if occasion.flapping is not None and occasion.flapping.steady_at > now:
        return REASON
    if counted <= now:
        return f"outside its hours, which begin at {_moment(due)}"
    return its_turn(due)


def _behind(occasion: Occasion, now: datetime) -> Wait | None:
    """What waits for the resources that this one depends on. Only reachability is explained by them."""
    parents = occasion.parents
    if parents is None or occasion.type not in REACHABILITY:
        return None
    names = ", ".join(parents.names)
    match parents.state:
        case "asked":
            until = occasion.began_at + ASKING
            return Wait(until, f"asking {names} first") if until > now else None
        case "down":
            return Wait(None, f"{BEHIND}{names}, which is down")
        case "settling":
            reason = f"{BEHIND}what it depends on, which is well again: after its next two checks"
            over = parents.until is not None and parents.until <= now
            return None if over else Wait(parents.until, reason)


def _tell(
    telling: Telling, to: Candidate, occasion: Occasion, spans: Sequence[ScopedSpan], now: datetime, waited_for: str,
    *notes: str,
) -> Decision:  # fmt: skip
    if telling == "opened" and to.flooded_until is not None and to.flooded_until > now:
        return Wait(to.flooded_until, f"it is in the summary at {_moment(to.flooded_until)}", summary=True, to=to.id)
    return Tell(to.id, "; ".join([*notes, *_notes(occasion, spans, now, waited_for)]) or None)


def _notes(occasion: Occasion, spans: Sequence[ScopedSpan], now: datetime, waited_for: str) -> list[str]:
    found = []
    began = occasion.began_at
    silence = _covering(spans, began)
    if silence is not None:
        there = began.astimezone(ZoneInfo(silence.timezone))
        found.append(f"began {there:%H:%M}, during the silence {silence.name}")
    if waited_for.startswith(BEHIND):
        found.append(f"for {format_duration((now - began).total_seconds())}, at first {waited_for.partition(',')[0]}")
    if waited_for == REASON and occasion.flapping is not None:
        found.append(occasion.flapping.summary)
    if occasion.explained:
        shown = ", ".join(occasion.explained[:SHOWN]) + (", …" if len(occasion.explained) > SHOWN else "")
        found.append(f"and {len(occasion.explained)} behind it: {shown}")
    return found


SHOWN = 10
"""Names of explained resources that a message lists."""


def _tell_on_duty(
    telling: Telling,
    to: Candidate,
    schedule: on_call.Schedule,
    occasion: Occasion,
    everybody: Mapping[UUID, Candidate],
    silences: Sequence[ScopedSpan],
    spans: Sequence[ScopedSpan],
    now: datetime,
    waited_for: str,
) -> Decision:
    """Whoever is on duty; where that one cannot be sent to, the next in the list, and it says so."""
    notes: list[str] = []
    for each in on_call.order(schedule, now):
        member = everybody.get(each)
        if member is None or member.unusable is not None:
            notes.append(f"instead of {member.name}, which cannot be reached" if member else "")
            continue
        if telling == "opened" and member.id in occasion.told:
            return _next_duty(schedule, now) or Never(f"{member.name} is told already")
        quiet = _covering(
            [each for each in silences if each.silences(member.id, occasion.type, occasion.severity)], now
        )
        if quiet is not None:
            until = min(filter(None, (quiet.ends_at, on_call.next_handover(schedule, now))))
            return Wait(until, f'silence "{quiet.name}" until {_moment(quiet.ends_at)}')
        return _tell(telling, member, occasion, spans, now, waited_for, *filter(None, notes))
    return _next_duty(schedule, now) or Never(NOBODY_ON_CALL)


def _next_duty(schedule: on_call.Schedule, now: datetime) -> Wait | None:
    at = on_call.next_handover(schedule, now)
    return None if at is None else Wait(at, f"{HAND_OVER}{_moment(at)}")


def follow_up(telling: Telling, to: Candidate, now: datetime, waited_for: str = "") -> list[tuple[Telling, Wait]]:
    """What waits from when `to` is told: a reminder, unless this was a hand-over, and the next on duty."""
    found: list[tuple[Telling, Wait]] = []
    if to.attachment is not None and to.attachment.repeat is not None and not waited_for.startswith(HAND_OVER):
        at = now + timedelta(seconds=to.attachment.repeat)
        found.append(("reminder", Wait(at, its_turn(at))))
    if telling == "opened" and to.schedule is not None and (following := _next_duty(to.schedule, now)):
        found.append(("opened", following))
    return found


def its_turn(at: datetime) -> str:
    """What it waits for until then, where that is only its turn."""
    return f"{ITS_TURN}{_moment(at)}, unless acknowledged"


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
