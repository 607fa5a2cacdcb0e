"""What is sent to PagerDuty: its Events API v2 (https://developer.pagerduty.com/docs/events-api-v2-overview)."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, ClassVar

from tocsin.domain import alerts
from tocsin.domain.alerts import MAX_KEY, Alert, Status
from tocsin.domain.sources.base import Note, Said, Settings, Snippet, SourceType, Unreadable, mapping

MAX_BODY = 512 * 1024
"""Bytes of one event, as there."""
MAX_SUMMARY = 1024
ACTIONS: Mapping[str, Status] = {"trigger": "firing", "acknowledge": "acknowledged", "resolve": "resolved"}
SEVERITIES = ("critical", "error", "warning", "info")
BESIDE = ("source", "component", "group", "class", "custom_details")

SENDER = """\
# Any sender that lets you choose PagerDuty's address
Address:          {base}     (instead of https://events.pagerduty.com)
Integration key:  {key}

# For instance
curl {base}/v2/enqueue -H 'Content-Type: application/json' -d '{{
  "routing_key": "{key}", "event_action": "trigger", "dedup_key": "db1/disk",
  "payload": {{"summary": "The disk is full", "source": "db1.example.com", "severity": "critical"}}}}'
"""


class PagerdutySource(SourceType):
    type: ClassVar[str] = "pagerduty"
    label: ClassVar[str] = "PagerDuty senders"
    about: ClassVar[str] = "Takes what programs send to PagerDuty's Events API v2."
    snippets: ClassVar[tuple[Snippet, ...]] = (
        Snippet("PagerDuty's Events API v2", "The key of this source is its integration key.", SENDER),
    )

    def read(self, body: object, settings: Settings, now: datetime) -> Iterator[Said]:
        """One event. A trigger without a key gets one."""
        event = mapping(body, "The event")
        action = event.get("event_action")
        if not isinstance(action, str) or action not in ACTIONS:
            raise Unreadable("'event_action' must be one of trigger, acknowledge and resolve")
        dedup_key = event.get("dedup_key")
        if dedup_key in (None, "") and action == "trigger":
            dedup_key = secrets.token_hex(16)
        if not isinstance(dedup_key, str) or not dedup_key:
            raise Unreadable("'dedup_key' is missing or blank")
        if len(dedup_key) > MAX_KEY:
            raise Unreadable(f"Length of 'dedup_key' is incorrect (should be at most {MAX_KEY} characters)")
        if action == "trigger":
            return iter([_triggered(event, dedup_key)])
        return iter([Alert(dedup_key, ACTIONS[action], alerts.NAMELESS, "")])


def read_change(body: object) -> Iterator[Said]:
    """One change event, which is no alert: https://developer.pagerduty.com/docs/send-change-events."""
    payload = mapping(mapping(body, "The event").get("payload"), "'payload'")
    return iter([Note(alerts.message(_text(payload, "summary")))])


def _triggered(event: Mapping[str, Any], dedup_key: str) -> Alert:
    payload = mapping(event.get("payload"), "'payload'")
    summary, source = _text(payload, "summary"), _text(payload, "source")
    severity = payload.get("severity")
    if severity not in SEVERITIES:
        raise Unreadable(f"'payload.severity' must be one of {', '.join(SEVERITIES)}")
    links = event.get("links") if isinstance(event.get("links"), list) else []
    hrefs = [each.get("href") for each in links or () if isinstance(each, dict)]
    kind = payload.get("class")
    details = {name: payload[name] for name in BESIDE if payload.get(name) not in (None, "")}
    return Alert(
        dedup_key, "firing", alerts.incident_type(kind) if isinstance(kind, str) and kind else alerts.NAMELESS,
        alerts.message(summary if source in summary else f"{summary} ({source})"), alerts.severity(severity),
        alerts.link(event.get("client_url"), *hrefs), alerts.fitted(details), anew=True,
    )  # fmt: skip


def _text(payload: Mapping[str, Any], name: str) -> str:
    value = payload.get(name)
    if not isinstance(value, str) or not value.strip():
        raise Unreadable(f"'payload.{name}' is missing or blank")
    return value[:MAX_SUMMARY]
