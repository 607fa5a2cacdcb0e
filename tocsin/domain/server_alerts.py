"""The alerts of a server: what of it opens an incident, from which level on, after how long. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict

from tocsin.domain.errors import Detail, invalid, invalid_field

DEFAULT_AFTER = 180
MAX_FOR = 86_400
MIN_AFTER = 5
MAX_AFTER = 30 * 86_400
MAX_LOAD = 10_000
MAX_DISKS = 64
"""File systems of one server."""
MAX_MOUNT = 255
"""Characters of a mount point."""


class Level(TypedDict("Level", {"threshold": float, "for": float})):
    """Percent from which on a value is over, and the seconds that it must stay there."""


class Threshold(Level, total=False):
    """A level, and below it another that is only a warning."""

    warning: Level


class Downtime(TypedDict):
    """Seconds without a report after which a server counts as down."""

    after: float


UnitFailed = TypedDict("UnitFailed", {"for": float})
"""Seconds that a systemd unit must have failed."""


class Alerts(TypedDict):
    """The alerts of one server, as they are stored and shown; None means off.

    `disk` is for each file system without an entry in `disks`, by its mount point. `load` is percent of the cores.
    """

    cpu: Threshold | None
    ram: Threshold | None
    disk: Threshold | None
    downtime: Downtime | None
    disks: NotRequired[dict[str, Threshold | None]]
    swap: NotRequired[Threshold | None]
    load: NotRequired[Threshold | None]
    unit_failed: NotRequired[UnitFailed | None]


SUGGESTED: Mapping[str, Any] = {
    "cpu": {"threshold": 90, "for": 300},
    "ram": {"threshold": 90, "for": 300},
    "disk": {"threshold": 90, "for": 0},
    "downtime": {"after": DEFAULT_AFTER},
    "swap": {"threshold": 80, "for": 300},
    "load": {"threshold": 200, "for": 300},
    "unit_failed": {"for": 0},
}
"""What an alert that is switched on has unless it says otherwise."""

OFF_AT_FIRST = ("swap", "load", "unit_failed")


def default_alerts() -> Alerts:
    found: Any = {kind: None if kind in OFF_AT_FIRST else dict(alert) for kind, alert in SUGGESTED.items()}
    found["disks"] = {}
    return found  # type: ignore[no-any-return]


def for_disk(alerts: Alerts, mount: str) -> Threshold | None:
    """The alert of one file system; None is off."""
    own = alerts.get("disks") or {}
    return own[mount] if mount in own else alerts["disk"]


def change_alerts(current: Alerts, given: object) -> Alerts:
    """The alerts after a change. Alerts that are not named stay; null switches one off; unknown names are ignored.

    `disks` replaces those of all file systems; what one of them leaves out is as in `disk`, but for its warning.
    Raises `Refused` (422) naming each field as `alerts.<type>.<field>`.
    """
    if not isinstance(given, dict):
        raise invalid_field("alerts", "must be an object")
    problems: list[Detail] = []
    changed: dict[str, Any] = {**default_alerts(), **current}
    for kind, suggested in SUGGESTED.items():
        if kind in given:
            changed[kind], found = _changed(kind, given[kind], changed[kind] or suggested)
            problems += found
    if "disks" in given:
        changed["disks"], found = _changed_disks(given["disks"], changed["disk"] or SUGGESTED["disk"])
        problems += found
    if problems:
        raise invalid(f"{problems[0].field} {problems[0].message}", *problems)
    return changed  # type: ignore[return-value]


def _changed_disks(given: object, usual: Mapping[str, Any]) -> tuple[dict[str, Any], list[Detail]]:
    if given is None:
        return {}, []
    if not isinstance(given, dict) or len(given) > MAX_DISKS:
        return {}, [Detail("alerts.disks", f"must be an object with at most {MAX_DISKS} mount points")]
    changed, problems = {}, []
    for mount, wanted in given.items():
        if not mount.startswith("/") or len(mount) > MAX_MOUNT or not mount.isprintable():
            message = f"must have mount points such as /var, of at most {MAX_MOUNT} characters"
            return {}, [Detail("alerts.disks", message)]
        changed[mount], found = _changed(f"disks.{mount}", wanted, {name: usual[name] for name in ("threshold", "for")})
        problems += found
    return changed, problems


def _changed(kind: str, wanted: object, before: Mapping[str, Any]) -> tuple[dict[str, Any] | None, list[Detail]]:
    """One alert after a change, and what is wrong with it. What is left out stays as it was `before`."""
    if wanted is None:
        return None, []
    if not isinstance(wanted, dict):
        return None, [Detail(f"alerts.{kind}", "must be an object, or null to switch it off")]
    merged = {field: wanted.get(field, value) for field, value in before.items() if field != "warning"}
    problems = _problems(kind, merged)
    changed: dict[str, Any] = {field: _whole(value) for field, value in merged.items()}
    if "threshold" in merged:
        problems += _set_warning(changed, kind, wanted.get("warning", before.get("warning")))
    return changed, problems


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
_LOAD = (0, MAX_LOAD, f"must be percent of the cores, above 0, at most {MAX_LOAD}")


def _problems(kind: str, alert: Mapping[str, object]) -> list[Detail]:
    found = []
    for field, value in alert.items():
        of_load = field == "threshold" and kind.partition(".")[0] == "load"
        least, most, message = _LOAD if of_load else _RANGES[field]
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not least <= value <= most or (field == "threshold" and value == 0):  # type: ignore[operator]
            found.append(Detail(f"alerts.{kind}.{field}", message))
    return found
