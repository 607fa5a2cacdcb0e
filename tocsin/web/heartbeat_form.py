"""Converts a heartbeat's settings to form values and back, and what is read from them: states, lines to paste."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import UNSET

from tocsin.actions.heartbeats import HeartbeatFields
from tocsin.domain import heartbeats as domain
from tocsin.domain.errors import Refused, invalid_field
from tocsin.domain.heartbeats import HeartbeatConfig
from tocsin.storage.monitoring.heartbeats import Heartbeat
from tocsin.web.readings import unreachable

UNITS = (("d", 86_400.0), ("h", 3_600.0), ("min", 60.0), ("s", 1.0))
FRESH: Mapping[str, str] = {"name": "", "slug": "", "every": "1 d", "cron": "", "timezone": "UTC", "grace": "1 h"}
STATES = {
    "down": ("bad", "down"), "late": ("warn", "late"), "running": ("info", "running"), "up": ("ok", "up"),
    "new": ("warn", "no ping yet"), "paused": ("", "paused"),
}  # fmt: skip


def state(heartbeat: Heartbeat) -> tuple[str, str]:
    """The badge: its kind (`ok`, `warn`, `bad`) and its text."""
    if heartbeat.status == "down" and heartbeat.explained_by:
        return unreachable(heartbeat.explained_by)
    return STATES[heartbeat.status]


def given(form: Mapping[str, str]) -> HeartbeatFields:
    """The settings as a caller of the API would send them. Raises `Refused` (422)."""
    cron = form.get("cron", "").strip()
    return HeartbeatFields(
        name=form.get("name", ""),
        slug=form.get("slug", "").strip() or (None if "slug" in form else UNSET),
        period=None if cron else seconds("every", form.get("every", "")),
        cron=cron or None,
        timezone=form.get("timezone", "").strip() or None,
        grace=seconds("grace", form.get("grace", "")),
        methods="POST" if form.get("post_only") else "",
    )


def values(stored: HeartbeatConfig) -> dict[str, Any]:
    """The form values of stored settings."""
    schedule = stored.schedule
    return {
        "name": stored.name,
        "slug": stored.slug or "",
        "every": "" if schedule.period is None else in_words(schedule.period),
        "cron": schedule.cron or "",
        "timezone": schedule.timezone,
        "grace": in_words(schedule.grace),
        "post_only": "on" if stored.methods else "",
    }


def errors(refused: Refused) -> dict[str, str]:
    """Messages by field; reraises refusals that are not about values."""
    if refused.status != 422 or not refused.details:
        raise refused
    names = {"period": "every"}
    return {names.get(each.field, each.field): each.message for each in refused.details}


def seconds(field: str, text: str) -> float:
    """`1 d 12 h`, `90 s`, `15` (minutes). Raises `Refused` (422)."""
    parts = _parts(text.strip()[:100].replace(",", ".").lower())
    if not parts:
        raise invalid_field(field, "must be a duration such as 1 d, 12 h, 15 min or 30 s")
    total = 0.0
    for number, unit in parts:
        size = dict(UNITS).get(unit)
        try:
            total += float(number) * (size or 0.0)
        except ValueError:
            size = None
        if size is None:
            raise invalid_field(field, "must be a duration such as 1 d, 12 h, 15 min or 30 s")
    return total


def _parts(words: str) -> list[tuple[str, str]]:
    """Numbers and their units; a bare number is minutes."""
    found: list[tuple[str, str]] = []
    rest = words.replace(" ", "")
    while rest:
        digits = rest[: len(rest) - len(rest.lstrip("0123456789."))]
        rest = rest[len(digits) :]
        unit = rest[: len(rest) - len(rest.lstrip("abcdefghijklmnopqrstuvwxyz"))]
        if not digits or (not unit and rest):
            return []
        rest = rest[len(unit) :]
        found.append((digits, {"": "min", "m": "min", "day": "d", "days": "d", "hours": "h", "hour": "h",
                               "minutes": "min", "minute": "min", "seconds": "s"}.get(unit, unit)))
    return found


def in_words(amount: float) -> str:
    """`1 d`, `1 h 30 min`, `90.5 s`: what `seconds` reads back."""
    if not float(amount).is_integer():
        return f"{amount:g} s"
    parts, left = [], int(amount)
    for unit, size in UNITS:
        count, left = divmod(left, int(size))
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts) or "0 s"


def lines(url: str, heartbeat: HeartbeatConfig) -> list[tuple[str, str, str, str]]:
    """What to paste where: key, title, a sentence, and the text. `url` is the heartbeat's address.

    The options of curl are those that Healthchecks recommends: a time limit, and new tries. Where others could read a
    command line, the address is in a file.
    """
    slug = heartbeat.slug or "job"
    slot = heartbeat.schedule.cron or "0 3 * * *"
    curl = "curl -fsS -m 10 --retry 5 -o /dev/null"
    return [
        ("cron", "cron", "Reports how the job ended.", f"{slot} /path/to/job; {curl} {url}/$?"),
        ("shell", "Shell script", "Reports the start, the end, and the last output.",
         f"#!/bin/sh\nurl={url}\n{curl} \"$url/start\"\noutput=$(/path/to/job 2>&1)\nstatus=$?\n"
         f"printf '%s' \"$output\" | tail -c {100_000} | {curl} --data-binary @- \"$url/$status\"\nexit $status"),
        ("systemd", "systemd", f"In a drop-in of the service that the timer starts: systemctl edit {slug}.service",
         f"[Service]\nExecStartPre=-{curl} {url}/start\nExecStopPost=-{curl} {url}/${{EXIT_STATUS}}"),
        ("actions", "GitHub Actions", "With the address as the secret PING_URL of the repository.",
         "  report:\n    runs-on: ubuntu-latest\n    needs: [job]\n    if: ${{ always() }}\n    steps:\n"
         f"      - run: {curl} \"$PING_URL${{{{ needs.job.result != 'success' && '/fail' || '' }}}}\"\n"
         "        env:\n          PING_URL: ${{ secrets.PING_URL }}"),
        ("tocsin", "tocsin run", "Reports start, end, duration, exit status and last output.",
         f"sudo install -m 600 /dev/stdin /etc/{slug}.heartbeat <<'END'\n{url}\nEND\n"
         f"tocsin run --heartbeat-file /etc/{slug}.heartbeat -- /path/to/job"),
    ]  # fmt: skip


def described(heartbeat: Heartbeat) -> str:
    return domain.described(heartbeat.wanted.schedule)
