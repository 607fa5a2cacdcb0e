"""Converts how an integration is attached to form values and words, and back. Rules are in `domain.attachments`."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

from tocsin.domain import hours
from tocsin.domain.attachments import Attachment
from tocsin.domain.errors import Refused, invalid_field
from tocsin.domain.hours import Hours
from tocsin.domain.recurrences import WEEKDAYS
from tocsin.web.render import lasting
from tocsin.web.session import Form

MINUTE, HOUR, DAY = 60, 3_600, 86_400

DELAYS = (
    0, MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 15 * MINUTE, 30 * MINUTE, HOUR, 2 * HOUR, 4 * HOUR, 8 * HOUR,
    DAY, 2 * DAY, 7 * DAY,
)  # fmt: skip
"""Seconds after which somebody may be told, as the form and the time line offer them."""
REPEATS = (5 * MINUTE, 15 * MINUTE, 30 * MINUTE, HOUR, 4 * HOUR, DAY)
SEVERITIES = (("", "All"), ("warning", "Warning or worse"), ("critical", "Critical only"))
DAYS = tuple(zip(WEEKDAYS, ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"), strict=True))
MARKS = (0, 10 * MINUTE, HOUR, 8 * HOUR, 7 * DAY)
"""Seconds that are written on the axis of the time line."""

_MINUTES = re.compile(r"\d{1,6}(?:[.,]\d{1,3})?", re.ASCII)


def given(form: Form) -> dict[str, Any]:
    """What a caller of the API would send; only `after` where the form has no other field. Raises `Refused` (422).

    A number of minutes that was typed counts instead of the choice beside it.
    """
    found: dict[str, Any] = {"after": _seconds(form, "after") or 0}
    if "severity" not in form:
        return found
    types = form.get("incident_types", "").replace(",", " ").split()
    return found | {
        "repeat": _seconds(form, "repeat"),
        "incident_types": types or None,
        "severity": form.get("severity") or None,
        "hours": _hours(form),
    }


def values(attachment: Attachment, zone: str) -> dict[str, Any]:
    """The form's values; `zone` is that of hours to come."""
    open_at = attachment.hours
    shown = hours.shown(open_at) if open_at else {"timezone": zone, "from": "08:00", "to": "20:00"}
    return {
        "after": attachment.after,
        "repeat": attachment.repeat or "",
        "incident_types": ", ".join(attachment.incident_types or ()),
        "severity": "" if attachment.severity in (None, "info") else attachment.severity,
        "days": [name for name, number in WEEKDAYS.items() if open_at and number in open_at.days],
        "from": shown["from"],
        "to": "00:00" if shown["to"] == "24:00" else shown["to"],
        "zone": shown["timezone"],
    }


def typed(form: Form) -> dict[str, Any]:
    """What was typed, to be shown again."""
    return {**form, "days": form.getall("days")}


def errors(refused: Refused) -> dict[str, str]:
    """Messages by the form's fields; reraises refusals that are not about values."""
    if refused.status != 422 or not refused.details:
        raise refused
    names = {"hours.timezone": "zone", "hours.days": "hours", "hours.from": "hours", "hours.to": "hours"}
    return {names.get(each.field, each.field): each.message for each in refused.details}


def delays(chosen: object) -> list[tuple[int, str]]:
    """The choices of `after`, with the one that is chosen."""
    return [(each, f"after {lasting(each)}" if each else "at once") for each in _with(DELAYS, chosen)]


def repeats(chosen: object) -> list[tuple[object, str]]:
    """The choices of `repeat`, with the one that is chosen."""
    return [("", "never"), *((each, f"every {lasting(each)}") for each in _with(REPEATS, chosen))]


def limits(attachment: Attachment) -> list[str]:
    """What an attachment asks for beside `after`, in words."""
    found = []
    if attachment.repeat:
        found.append(f"again every {lasting(attachment.repeat)}")
    if attachment.incident_types:
        found.append(f"only {', '.join(attachment.incident_types)}")
    if attachment.severity == "critical":
        found.append("only critical")
    elif attachment.severity == "warning":
        found.append("warning or worse")
    if attachment.hours:
        found.append(_hours_in_words(attachment.hours))
    return found


def place(seconds: float) -> float:
    """Where that delay lies on the time line, in percent: the delays offered are equally far from each other."""
    for number, (begin, end) in enumerate(pairwise(DELAYS)):
        if seconds <= end:
            return round(100 * (number + (seconds - begin) / (end - begin)) / (len(DELAYS) - 1), 2)
    return 100.0


def _with(offered: tuple[int, ...], chosen: object) -> list[int]:
    text = str(chosen)
    more = {int(text)} if text.isascii() and text.isdecimal() and len(text) < 8 else set()
    return sorted({*offered, *more} - (set() if 0 in offered else {0}))


def _seconds(form: Form, name: str) -> int | None:
    minutes = form.get(f"{name}.minutes", "").strip()
    if minutes:
        if not _MINUTES.fullmatch(minutes):
            raise invalid_field(name, "must be a number of minutes")
        return round(float(minutes.replace(",", ".")) * MINUTE)
    chosen = form.get(name, "").strip()
    if not chosen:
        return None
    if not (chosen.isascii() and chosen.isdecimal() and len(chosen) < 10):
        raise invalid_field(name, "must be one of the choices")
    return int(chosen)


def _hours(form: Form) -> dict[str, str] | None:
    days = form.getall("days")
    if not days:
        return None
    end = form.get("to", "")[:5]
    return {
        "timezone": form.get("zone", "").strip(),
        "days": ",".join(days[:7]),
        "from": form.get("from", "")[:5],
        "to": "24:00" if end == "00:00" else end,
    }


def _hours_in_words(open_at: Hours) -> str:
    shown = hours.shown(open_at)
    called = dict(DAYS)
    days = re.sub(r"[A-Z]{2}", lambda each: called[each[0]], shown["days"]).replace("-", "–").replace(",", ", ")
    times = "" if (open_at.start, open_at.end) == (0, hours.DAY) else f" {shown['from']}–{shown['to']}"
    return f"{days}{times} ({shown['timezone']})"
