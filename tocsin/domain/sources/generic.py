"""Whatever else sends JSON: our own small shape, or any other by a mapping of JSON paths to its fields."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, ClassVar

from tocsin.domain import alerts, json_paths
from tocsin.domain.alerts import MAX_KEY, Alert, Status
from tocsin.domain.errors import invalid_field
from tocsin.domain.json_paths import Faulty, Steps, Unselectable
from tocsin.domain.sources.base import Said, Settings, Snippet, SourceType, Unreadable, Wrong, mapping

FIELDS = ("dedup_key", "status", "title", "message", "severity", "url")
EACH = "each"
"""In a mapping: the path to the alerts of a body that has several; the other paths are then of each of them."""

STATUSES: Mapping[str, Status] = {
    **dict.fromkeys(("firing", "fire", "alerting", "alert", "trigger", "triggered", "open", "opened", "problem", "down",
                     "critical", "error", "failing", "failed", "new", "active", "true", "1"), "firing"),
    **dict.fromkeys(("resolved", "resolve", "ok", "normal", "up", "close", "closed", "recovered", "recovery", "fixed",
                     "inactive", "success", "false", "0"), "resolved"),
    **dict.fromkeys(("acknowledged", "acknowledge", "ack", "acked"), "acknowledged"),
}  # fmt: skip
"""What senders call it."""

CURL = """\
curl {url} -H 'Content-Type: application/json' -d '{{
  "dedup_key": "db1/disk", "status": "firing", "title": "disk_full",
  "message": "The disk of db1 is full", "severity": "critical", "url": "https://example.com/db1"}}'

# It is over
curl {url} -H 'Content-Type: application/json' -d '{{"dedup_key": "db1/disk", "status": "resolved"}}'
"""


class GenericSource(SourceType):
    type: ClassVar[str] = "generic"
    label: ClassVar[str] = "Anything else"
    about: ClassVar[str] = "Takes JSON of any shape: ours, or another by a mapping."
    settings: ClassVar[tuple[str, ...]] = ("map",)
    snippets: ClassVar[tuple[Snippet, ...]] = (Snippet("A script", "With curl, or from any program.", CURL),)

    def checked(self, given: Settings) -> dict[str, Any]:
        known = super().checked(given)
        wanted = known.get("map")
        if wanted is None or wanted == {}:
            return {}
        if not isinstance(wanted, dict):
            raise invalid_field("settings.map", f"must be an object with a JSON path for each of {', '.join(FIELDS)}")
        for name, path in wanted.items():
            if name not in (*FIELDS, EACH):
                raise invalid_field(f"settings.map.{name}"[:200], f"is none of {', '.join((*FIELDS, EACH))}")
            if not isinstance(path, str) or not path or len(path) > json_paths.MAX_LENGTH:
                wanted_text = f"must be a JSON path of up to {json_paths.MAX_LENGTH} characters, such as $.alert.id"
                raise invalid_field(f"settings.map.{name}", wanted_text)
            if path.startswith("$"):
                try:
                    json_paths.check(path)
                except Faulty as error:
                    raise invalid_field(f"settings.map.{name}", str(error)) from None
            elif name in ("dedup_key", EACH):
                raise invalid_field(f"settings.map.{name}", "must be a JSON path, which begins with $")
        if "dedup_key" not in wanted:
            raise invalid_field("settings.map.dedup_key", "is required: it says which alerts are the same")
        return {"map": dict(wanted)}

    def read(self, body: object, settings: Settings, now: datetime) -> Iterator[Said]:
        wanted = settings.get("map")
        if not wanted:
            given = mapping(body, "The body")
            return iter([_alert({name: given.get(name) for name in FIELDS}, given)])
        try:
            steps = Steps()
            members = json_paths.found(wanted[EACH], body, steps) if EACH in wanted else [body]
            found = [(_mapped(wanted, each, steps), each) for each in members]
        except Unselectable as error:
            raise Unreadable(f"the mapping cannot be applied: {error}") from None
        except Faulty as error:
            raise Unreadable(f"a path of the mapping {error}") from None
        if not found:
            raise Unreadable(f"the path {wanted[EACH]} finds no alert in it")
        if EACH not in wanted:
            return iter([_alert(*found[0])])
        return _several(found)


def _several(found: list[tuple[dict[str, Any], object]]) -> Iterator[Said]:
    for number, (fields, each) in enumerate(found):
        try:
            yield _alert(fields, each)
        except Unreadable as error:
            yield Wrong(f"alert {number}: {error}")


def _mapped(wanted: Mapping[str, str], body: object, steps: Steps) -> dict[str, Any]:
    """The value of each field: what its path finds first, or the text itself where it is no path."""
    fields: dict[str, Any] = dict.fromkeys(FIELDS)
    for name, path in wanted.items():
        if name != EACH:
            fields[name] = next(json_paths.found(path, body, steps), None) if path.startswith("$") else path
    return fields


def _alert(fields: Mapping[str, Any], whole: object) -> Alert:
    key = _word(fields["dedup_key"])
    if not key:
        raise Unreadable("dedup_key is missing: it says which alerts are the same")
    if len(key) > MAX_KEY:
        raise Unreadable(f"dedup_key is longer than {MAX_KEY} characters")
    said = _word(fields["status"])
    status = STATUSES.get(said.strip().lower()) if said else "firing"
    if status is None:
        raise Unreadable(f"status must be firing, resolved or acknowledged, and it is {said[:60]!r}")
    title = _word(fields["title"])
    kind = alerts.incident_type(title) if title else alerts.NAMELESS
    if status != "firing":
        return Alert(key, status, kind, "")
    return Alert(
        key, status, kind, alerts.message(_word(fields["message"]), default=title), alerts.severity(fields["severity"]),
        alerts.link(fields["url"]), alerts.fitted(whole if isinstance(whole, dict) else {"body": whole}), anew=True,
    )  # fmt: skip


def _word(value: object) -> str:
    """A value as text; nothing for what is no word."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, str | int | float) else ""
