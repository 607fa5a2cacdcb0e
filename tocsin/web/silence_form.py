"""Converts a silence to form values and back. The rules are those of `actions.silences`.

The form asks from when to when, and whether that repeats; the length of a repeated span follows from the two.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, cast
from zoneinfo import ZoneInfo

from tocsin.actions.silences import RecurrenceFields, SilenceFields
from tocsin.domain import ids, zones
from tocsin.domain.errors import Refused, invalid_field
from tocsin.domain.recurrences import WEEKDAYS
from tocsin.domain.silences import Rule
from tocsin.storage.notifying.silences import Silence
from tocsin.web.session import Form

REPEATS = (
    ("never", "Never"), ("daily", "Every day"), ("weekdays", "Monday to Friday"), ("weekly", "Every week"),
    ("monthly", "Every month"), ("rule", "By a rule of RFC 5545"),
)  # fmt: skip
SEVERITIES = (("", "All"), ("warning", "Warnings and milder"), ("info", "Info only"))

RULES = {"daily": "FREQ=DAILY", "weekdays": "FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR", "monthly": "FREQ=MONTHLY"}
FIELDS = {"recurrence.rrule": "rrule", "recurrence.duration": "to", "recurrence.timezone": "zone", "starts_at": "from"}
"""The form's names for the fields of a silence, where they differ."""

_NAMES = tuple(WEEKDAYS)


def fresh(now: datetime, zone: str, resource: str = "") -> dict[str, Any]:
    """The values of a new form: an hour from now on."""
    begin = zones.wall_clock(now, ZoneInfo(zone)).replace(second=0, microsecond=0)
    return {
        "name": "", "from": _written(begin), "to": _written(begin + timedelta(hours=1)), "repeats": "never",
        "zone": zone, "resources": [resource] if resource else [], "integrations": [],
    }  # fmt: skip


def typed(form: Form) -> dict[str, Any]:
    """What was typed, to be shown again."""
    return {**form, "resources": form.getall("resources"), "integrations": form.getall("integrations")}


def given(form: Form) -> SilenceFields:
    """The silence as a caller of the API would send it. Raises `Refused` (422)."""
    zone = ZoneInfo(zones.checked(form.get("zone", ""), "zone"))
    begin, end = _time(form, "from"), _time(form, "to")
    if end <= begin:
        raise invalid_field("to", "must be after the beginning")
    repeats = form.get("repeats", "never")
    until = form.get("until", "").strip()
    recurrence: RecurrenceFields | None = None
    ends_at: datetime | None = zones.instant(end, zone)
    if repeats != "never":
        rrule = form.get("rrule", "") if repeats == "rule" else RULES.get(repeats)
        rrule = rrule if rrule is not None else f"FREQ=WEEKLY;BYDAY={_NAMES[begin.weekday()]}"
        recurrence = RecurrenceFields(rrule, int((end - begin).total_seconds()), zone.key)
        ends_at = zones.instant(_time(form, "until"), zone) if until else None
    return SilenceFields(
        name=form.get("name", ""),
        starts_at=zones.instant(begin, zone),
        ends_at=ends_at,
        recurrence=recurrence,
        resources=form.getall("resources") or None,
        integrations=form.getall("integrations") or None,
        incident_types=form.get("incident_types", "").replace(",", " ").split() or None,
        severity=cast(Any, form.get("severity") if form.get("severity") in ("warning", "info") else None),
        public=form.get("public") == "on",
    )


def values(silence: Silence, zone: str, resources: list[str]) -> dict[str, Any]:
    """The form values of a stored silence; times are in its own zone, or else in the reader's."""
    rule = silence.rule
    used = rule.recurrence.timezone if rule.recurrence else zone
    wall = ZoneInfo(used)
    begin, end = zones.wall_clock(rule.starts_at, wall), rule.ends_at and zones.wall_clock(rule.ends_at, wall)
    if rule.recurrence:
        end = begin + timedelta(seconds=rule.recurrence.duration)
    return {
        "name": silence.name,
        "from": _written(begin),
        "to": _written(end),
        "repeats": _repeats(rule, begin),
        "rrule": rule.recurrence.rrule if rule.recurrence else "",
        "until": _written(zones.wall_clock(rule.ends_at, wall)) if rule.recurrence and rule.ends_at else "",
        "zone": used,
        "resources": resources,
        "integrations": [ids.public(ids.INTEGRATION, each) for each in silence.integrations or ()],
        "incident_types": ", ".join(silence.incident_types or ()),
        "severity": silence.severity or "",
        "public": "on" if silence.public else "",
    }


def errors(refused: Refused) -> dict[str, str]:
    """Messages by the form's fields; reraises refusals that are not about values."""
    if refused.status != 422 or not refused.details:
        raise refused
    found = {}
    for each in refused.details:
        name = each.field.partition("[")[0]
        found[FIELDS.get(name, name)] = each.message
    return found


def repeats_in_words(rule: Rule) -> str:
    """`every day`, or the rule itself."""
    if rule.recurrence is None:
        return ""
    begin = zones.wall_clock(rule.starts_at, ZoneInfo(rule.recurrence.timezone))
    name = _repeats(rule, begin)
    return rule.recurrence.rrule if name == "rule" else dict(REPEATS)[name].lower()


def quick(choice: str, resource: str, name: str, zone: str, now: datetime) -> SilenceFields:
    """What the buttons on a resource's page ask for. Raises `Refused` (422)."""
    wall = ZoneInfo(zone)
    local = zones.wall_clock(now, wall)
    fields = SilenceFields(name=name[:200], resources=[resource])
    if choice == "hour":
        fields.ends_at = now + timedelta(hours=1)
    elif choice == "morning":
        seven = local.replace(hour=7, minute=0, second=0, microsecond=0)
        fields.ends_at = zones.instant(seven if seven > local else seven + timedelta(days=1), wall)
    elif choice == "sundays":
        two = local.replace(hour=2, minute=0, second=0, microsecond=0) + timedelta(days=6 - local.weekday())
        fields.starts_at = zones.instant(two if two > local else two + timedelta(days=7), wall)
        fields.recurrence = RecurrenceFields("FREQ=WEEKLY;BYDAY=SU", 7200, zone)
    else:
        raise invalid_field("for", "must be one of the buttons")
    return fields


def _repeats(rule: Rule, begin: datetime) -> str:
    if rule.recurrence is None:
        return "never"
    weekly = dict.fromkeys(("FREQ=WEEKLY", f"FREQ=WEEKLY;BYDAY={_NAMES[begin.weekday()]}"), "weekly")
    known = {**{each: name for name, each in RULES.items()}, **weekly}
    return known.get(rule.recurrence.rrule, "rule")


def _time(form: Form, name: str) -> datetime:
    try:
        found = datetime.fromisoformat(form.get(name, "").strip())
    except ValueError:
        found = None
    if found is None or found.tzinfo is not None or not 2000 <= found.year < 2100:
        raise invalid_field(name, "must be a time such as 2030-01-31 22:00")
    return found


def _written(at: datetime | None) -> str:
    return "" if at is None else at.isoformat(timespec="seconds" if at.second else "minutes")


