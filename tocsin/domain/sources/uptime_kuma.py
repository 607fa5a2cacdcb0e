"""Uptime Kuma's webhook, with its body in JSON (https://github.com/louislam/uptime-kuma/wiki/Notification-Methods)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, ClassVar

from tocsin.domain import alerts
from tocsin.domain.alerts import Alert
from tocsin.domain.sources.base import Note, Said, Settings, Snippet, SourceType, Unreadable, mapping

DOWN, UP, PENDING, MAINTENANCE = 0, 1, 2, 3
"""A heartbeat's status there."""
BESIDE = ("name", "type", "url", "hostname", "port", "description")

NOTIFICATION = """\
# Settings, Notifications, Setup Notification
Notification Type:  Webhook
Post URL:           {url}
Request Body:       Preset - application/json
"""


class UptimeKumaSource(SourceType):
    type: ClassVar[str] = "uptime_kuma"
    label: ClassVar[str] = "Uptime Kuma"
    about: ClassVar[str] = "Takes what Uptime Kuma says by its notification of type webhook."
    snippets: ClassVar[tuple[Snippet, ...]] = (
        Snippet("Uptime Kuma", "A notification for the monitors that you choose there.", NOTIFICATION),
    )

    def read(self, body: object, settings: Settings, now: datetime) -> Iterator[Said]:
        given = mapping(body, "The body")
        text = given.get("msg")
        if not isinstance(text, str):
            raise Unreadable("msg must be a string")
        if given.get("heartbeat") is None:  # a test, or a certificate that ends soon
            return iter([Note(alerts.message(text))])
        heartbeat, monitor = mapping(given["heartbeat"], "heartbeat"), mapping(given.get("monitor"), "monitor")
        status, number = heartbeat.get("status"), monitor.get("id", heartbeat.get("monitorID"))
        if isinstance(number, bool) or not isinstance(number, int):
            raise Unreadable("monitor.id must be a number")
        if isinstance(status, bool) or status not in (DOWN, UP, PENDING, MAINTENANCE):
            raise Unreadable("heartbeat.status must be 0 (down), 1 (up), 2 (pending) or 3 (maintenance)")
        if status in (PENDING, MAINTENANCE):
            return iter([Note(alerts.message(text))])
        return iter([_alert(str(number), status == DOWN, heartbeat, monitor, text)])


def _alert(key: str, down: bool, heartbeat: Mapping[str, Any], monitor: Mapping[str, Any], text: str) -> Alert:
    name = monitor.get("name")
    kind = alerts.incident_type(name) if isinstance(name, str) and name else alerts.NAMELESS
    if not down:
        return Alert(key, "resolved", kind, "")
    own = heartbeat.get("msg")
    shown = {each: monitor[each] for each in BESIDE if monitor.get(each) not in (None, "")}
    return Alert(
        key, "firing", kind, alerts.message(f"{name}: {own}" if name and own else text), "critical",
        alerts.link(monitor.get("url")), alerts.fitted({"monitor": shown, "msg": text}), anew=True,
    )  # fmt: skip
