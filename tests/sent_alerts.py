"""What other systems send, as their documentation has it, with values of our own.

Grafana: alerting, "Configure the webhook notifier"; Alertmanager: configuration, `webhook_config`; Uptime Kuma:
"Notification Methods", webhook; PagerDuty: Events API v2, "Send an alert event".
"""

from __future__ import annotations

from typing import Any

NEVER = "0001-01-01T00:00:00Z"


def alertmanager(*alerts: dict[str, Any], status: str = "firing", **more: Any) -> dict[str, Any]:
    """Alertmanager's webhook, version 4."""
    return {
        "receiver": "tocsin", "status": status, "alerts": [*alerts], "groupLabels": {}, "commonLabels": {},
        "commonAnnotations": {}, "externalURL": "http://alertmanager.example.com", "version": "4",
        "groupKey": '{}:{alertname="DiskFull"}', "truncatedAlerts": 0, **more,
    }  # fmt: skip


def told(status: str = "firing", starts: str = "2025-05-01T10:00:00Z", ends: str = NEVER, **labels: str) -> Any:
    """One alert of it."""
    return {
        "status": status, "labels": {"alertname": "DiskFull", **labels}, "annotations": {"summary": "It is full"},
        "startsAt": starts, "endsAt": ends, "generatorURL": "http://prometheus.example.com/graph", "fingerprint": "00",
    }  # fmt: skip


def grafana(status: str = "firing", **labels: str) -> dict[str, Any]:
    """Grafana's webhook with one alert."""
    return {
        "receiver": "My Super Webhook", "status": status, "orgId": 1,
        "alerts": [{
            "status": status, "labels": {"alertname": "High memory usage", "team": "blue", "zone": "us-1", **labels},
            "annotations": {"description": "The system has high memory usage", "summary": "This alert was triggered"},
            "startsAt": "2025-05-01T10:00:00.000Z",
            "endsAt": NEVER if status == "firing" else "2025-05-01T10:05:00.000Z",
            "generatorURL": "https://grafana.example.com/alerting/1afz29v7z/edit", "fingerprint": "c6eadffa33fcdf37",
            "silenceURL": "https://grafana.example.com/alerting/silence/new", "dashboardURL": "", "panelURL": "",
            "values": {"B": 44.23943737541908, "C": 1}, "valueString": "[ var='B' value=44.2 ]",
        }],
        "groupLabels": {}, "commonLabels": {"team": "blue"}, "commonAnnotations": {},
        "externalURL": "https://grafana.example.com/", "version": "1", "groupKey": "{}:{}", "truncatedAlerts": 0,
        "title": "[FIRING:1]  (High memory usage blue us-1)", "state": "alerting", "message": "**Firing**",
    }  # fmt: skip


def uptime_kuma(status: int, monitor: int = 12) -> dict[str, Any]:
    """Uptime Kuma's webhook."""
    word = "Down" if status == 0 else "Up"
    return {
        "heartbeat": {
            "monitorID": monitor, "status": status, "time": "2025-05-01 10:00:00.000", "important": True,
            "msg": "connect ECONNREFUSED 192.0.2.7:443", "ping": None, "duration": 60, "retries": 0,
            "timezone": "UTC", "timezoneOffset": "+00:00", "localDateTime": "2025-05-01 10:00:00",
        },
        "monitor": {
            "id": monitor, "name": "Web shop", "description": None, "url": "https://shop.example.com", "method": "GET",
            "hostname": None, "port": None, "type": "http", "interval": 60, "active": True,
        },
        "msg": f"[Web shop] [{word}] connect ECONNREFUSED 192.0.2.7:443",
    }  # fmt: skip


def event(action: str = "trigger", key: str = "db1/disk", **payload: Any) -> dict[str, Any]:
    """PagerDuty's event."""
    found: dict[str, Any] = {"event_action": action, "dedup_key": key, "client": "Monitor",
                             "client_url": "https://monitor.example.com/db1"}
    if action == "trigger":
        found["payload"] = {
            "summary": "The disk is full", "source": "db1.example.com", "severity": "warning", "class": "disk full",
            "component": "postgres", "group": "db", "custom_details": {"free": 0}, **payload,
        }  # fmt: skip
    return found
