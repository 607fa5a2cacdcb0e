"""What the examples of the description show: integrations, incidents, deliveries and the rest, as callers see them."""

from __future__ import annotations

from typing import Any

Named = dict[str, Any]
"""Examples by what they show."""

HOOK = "https://hooks.slack.com/services/YOUR/WEBHOOK/URL"
TIMES = {"created_at": "2024-01-01T00:00:00Z", "updated_at": "2024-01-01T00:00:00Z"}


def integration(kind: str, name: str, settings: Named, *, editable: bool = True) -> Named:
    return {
        "uuid": "INT123",
        "type": f"Integrations::{kind}Integration",
        "name": name,
        "settings": settings,
        "editable": editable,
        "deletable": True,
        **TIMES,
    }


def create(kind: str, settings: Named) -> Named:
    return {"integration": {"type": f"Integrations::{kind}Integration", "settings": settings}}


WEBHOOK = integration("Webhook", HOOK, {"webhook_url": HOOK})
CHAT_SETTINGS = {
    "webhook_url": "https://chat.example.com/hooks/one",
    "headers": {"Authorization": "Bearer {{ secrets.token }}"},
    "secrets": {"token": "tk_0123456789"},
    "body": {"text": "{{ title }}: {{ message }}", "urgent": "{{ severity == 'critical' }}"},
}
PREVIEW = {
    "event": "opened",
    "method": "POST",
    "url": "https://chat.example.com/hooks/one",
    "headers": {"Content-Type": "application/json", "Authorization": "Bearer ********"},
    "body": '{\n  "text": "Incident: timeout on My Website: Request timeout after 30 seconds",\n  "urgent": true\n}',
}
EMAIL = integration("Email", "alerts@example.com", {"email": "alerts@example.com"})
SSH_SETTINGS = {"ip": "192.168.1.100", "username": "admin", "password": "secure_password", "port": 22}
FINGERPRINT = "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU"
SSH = integration("SshServerRestart", "192.168.1.100 (admin)", SSH_SETTINGS)
SMS = integration("Sms", "SMS +1234567890", {"phone_number": "+1234567890"})
SLACK_SETTINGS = {
    "bot_token": "xoxb-...",
    "user_token": "xoxp-...",
    "channel_id": "C1234567890",
    "webhook_url": "https://hooks.slack.com/services/...",
    "bot_user_id": "U1234567890",
}
SLACK = integration("Slack", "My Workspace #alerts", SLACK_SETTINGS, editable=False)
TELEGRAM = integration(
    "Telegram", "Telegram Operations",
    {"bot_token": "********", "bot_username": "example_alerts_bot", "chat_id": -1001234567890,
     "chat_name": "Operations"},
)  # fmt: skip
TELEGRAM_CODE = "K5QWC2LMOJSXGYLTN5XA"
LISTED = integration("Webhook", "Slack Webhook", {"webhook_url": "https://hooks.slack.com/services/..."})

OVERRIDE = {
    "uuid": "OVR123", "integration_id": "INT123", "from": "2099-06-01T07:00:00Z", "until": "2099-06-02T07:00:00Z",
}  # fmt: skip
FEED = "https://tocsin.example.com/oncall/INT123-0123456789abcdef.ics"

INCIDENT = {
    "uuid": "INC123",
    "status": "ongoing",
    "error_message": "Connection timeout",
    "closed_at": None,
    "snoozed_at": None,
    "snooze_until": None,
    "monitorable_type": "NetworkMonitor",
    "monitorable_uuid": "NM123",
    "monitorable_name": "My Website",
    "incident_type": "timeout",
    "request": "GET https://example.com",
    "request_headers": {"User-Agent": "Tocsin/1.0"},
    "response": "500 Internal Server Error",
    "response_headers": {"Content-Type": "text/html"},
    **TIMES,
    "severity": "critical",
    "acknowledged_at": None,
    "acknowledged_by": None,
    "acknowledged_until": None,
    "silenced_by": None,
}
ACKNOWLEDGED = {**INCIDENT, "acknowledged_at": "2024-01-01T00:01:00Z", "acknowledged_by": "Ann"}
RESOLVED = {**INCIDENT, "status": "resolved", "closed_at": "2024-01-01T00:05:00Z"}
SNOOZED = {**INCIDENT, "snoozed_at": "2024-01-01T00:01:00Z", "snooze_until": "2099-01-01T08:00:00Z"}
ALARM = {
    "resource_type": "Server",
    "resource_uuid": "SRV123",
    "incident_type": "disk_failure",
    "message": "Disk sda is failing",
    "severity": "critical",
}
NAMED = {"resource_type": "Server", "resource_uuid": "SRV123", "incident_type": "disk_failure"}
META = {"current_page": 1, "per_page": 25, "total_pages": 1, "total_count": 1}

DELIVERY = {
    "uuid": "DLV123",
    "event": "opened",
    "status": "delivered",
    "reason": None,
    "incident_uuid": "INC123",
    "integration_uuid": "INT123",
    "integration_type": "Integrations::WebhookIntegration",
    "on_behalf_of": None,
    "redelivery_of": None,
    "created_at": "2024-01-01T00:00:00.123Z",
    "due_at": None,
    "finished_at": "2024-01-01T00:00:00.131Z",
    "latency_ms": 8.2,
    "attempts_count": 1,
    "request_id": "k7f3qz2mvx4d-1f",
}
WAITING = {
    **DELIVERY, "status": "pending", "due_at": "2024-01-01T00:00:00.123Z", "finished_at": None, "latency_ms": None,
    "attempts_count": 0,
}  # fmt: skip
ATTEMPT = {
    "number": 1,
    "started_at": "2024-01-01T00:00:00.125Z",
    "duration_ms": 5.1,
    "outcome": "delivered",
    "status_code": 200,
    "response": "ok",
    "error": None,
}
REPLAY = {
    "uuid": "RPL123", "integration_uuid": "INT123", "state": "running", "reason": None,
    "from": "2024-01-01T00:00:00.000Z", "to": "2024-01-01T06:00:00.000Z", "status": "dead", "total": 250, "queued": 90,
    "delivered": 84, "dead": 1, "suppressed": 0, "skipped": 0, "created_by": "API token",
    "created_at": "2024-01-01T06:10:00.123Z", "finished_at": None,
}  # fmt: skip
STOPPED = {
    **REPLAY, "state": "stopped", "reason": "the replay was stopped", "finished_at": "2024-01-01T06:11:00.456Z",
}  # fmt: skip

SERVER = {
    "uuid": "SRV123", "hostname": "my-server", "public_ip": "203.0.113.10", "private_ip": "10.0.0.4",
    "mac_address": "00-0a-95-9d-67-16", "motherboard_id": "unique_mb_id_123", "cpu_cores": 4, "cpu_model": "AMD EPYC",
    "operating_system": "linux", "kernel_version": "6.8.0", "disk_total_bytes": 512000000000,
    "memory_total_bytes": 17179869184, "swap_total_bytes": 4294967296, "agent_version": "1.2.3",
    "last_metrics": {"cpu_used": {"value": 70.0, "timestamp": "2025-05-01T10:00:00Z"}},
    "disks": [{"mount": "/", "used": 120000000000, "total": 512000000000, "inodes": 4.2},
              {"mount": "/var/lib/postgresql", "used": 1640000000000, "total": 2000000000000, "inodes": None}],
    "failed_units": ["backup.service"],
    "alerts": {"cpu": {"threshold": 90, "for": 300}, "ram": {"threshold": 90, "for": 300},
               "disk": {"threshold": 90, "for": 0}, "downtime": {"after": 180}, "swap": None, "load": None,
               "unit_failed": {"for": 300}, "disks": {"/var/lib/postgresql": {"threshold": 80, "for": 0}}},
    "depends_on": ["NM123"], "explained_by": [],
    **TIMES,
}  # fmt: skip
REPORT: dict[str, Any] = {
    "attributes": {
        "motherboard_id": "unique_mb_id_123", "mac_address": "00-0a-95-9d-67-16", "cpu_cores": 4,
        "cpu_model": "AMD EPYC", "hostname": "my-server", "public_ip": "203.0.113.10", "private_ip": "10.0.0.4",
        "operating_system": "linux", "uptime": 1234, "kernel_version": "6.8.0", "disk_total_bytes": 512000000000,
        "memory_total_bytes": 17179869184,
    },
    "metrics": [
        {"metric": "cpu_used", "value": 70.0, "timestamp": "2025-05-01T10:00:00Z"},
        {"metric": "mem_used_b", "value": 6000000000.0, "timestamp": "2025-05-01T10:00:00Z"},
    ],
    "agent_version": "1.2.3",
}  # fmt: skip
FULL_REPORT = {
    **REPORT,
    "attributes": {**REPORT["attributes"], "cpu_unit": "percent", "swap_total_bytes": 4294967296},
    "metrics": [
        *REPORT["metrics"],
        {"metric": "swap_used_b", "value": 200000000.0, "timestamp": "2025-05-01T10:00:00Z"},
        {"metric": "load_1m", "value": 1.7, "timestamp": "2025-05-01T10:00:00Z"},
        {"metric": "disk", "value": 82.0, "timestamp": "2025-05-01T10:00:00Z"},
    ],
    "disks": SERVER["disks"], "failed_units": SERVER["failed_units"],
    "processes": {"cpu": [{"name": "postgres", "share": 48.2}], "ram": [{"name": "postgres", "share": 21.0}]},
}  # fmt: skip
MONITOR = {
    "id": 1, "uuid": "NM123", "name": "Website Uptime", "url": "https://example.com", "check_type": "http",
    "status": "success", "explained_by": [], "uptime": 99.95, "response_time": 125.5,
    "last_check": "2024-01-02T12:30:00Z", "open_incident_uuids": ["INC123"], "created_at": "2024-01-01T00:00:00Z",
}  # fmt: skip
HEALTH_MONITOR = {
    "url": "https://api.example.com/health", "method": "GET", "token": "example-token",
    "json_path": "$.checks[*].status", "json_value": "UP", "max_response_ms": 2000, "tls_days": 21,
}  # fmt: skip
MONITOR_SHOWN = {
    **MONITOR, "response_time_p50": 121.4, "response_time_p95": 180.2, "interval": 60, "timeout": 30,
    "confirmations": 2, "recoveries": 1, "expected_status": "2xx", "keyword": None,
    "method": "GET", "headers": {"X-Api-Key": "********"}, "body": None, "username": None, "password": None,
    "token": None, "keyword_absent": None, "json_path": "$.status", "json_value": "ok", "max_response_ms": 2000,
    "follow_redirects": True, "verify_tls": True, "ip_version": None, "tls_days": 30, "domain_days": 30,
    "domain": {"name": "example.com", "expires_at": "2099-08-13T04:00:00Z", "checked_at": "2024-01-02T06:12:47Z",
               "problem": None},
    "paused": False, "depends_on": [], "locations": None, "places": [],
    "updated_at": "2024-01-01T00:00:00Z",
}  # fmt: skip
PLACED_MONITOR = {
    **MONITOR_SHOWN, "locations": ["wien", "here"],
    "places": [
        {"place": "wien", "problem": "timeout", "message": "Request timeout after 30 seconds", "response_time": None,
         "last_check": "2024-01-01T00:00:00Z", "votes": True},
        {"place": "here", "problem": None, "message": None, "response_time": 120.5,
         "last_check": "2024-01-01T00:00:00Z", "votes": True},
    ],
}  # fmt: skip
PROBE_CHECK = {
    "uuid": "NM123", "version": "2024-01-01T00:00:00+00:00", "interval": 60,
    "target": {"url": "https://example.com", "check_type": "http", "timeout": 30, "options": {}, "unreadable": None},
}  # fmt: skip
PROBE_WORK = {
    "now": "2024-01-01T00:00:00.123456+00:00", "cursor": "17.0", "next_seq": 42, "more": False,
    "checks": [PROBE_CHECK], "gone": [], "ask": [],
}  # fmt: skip
PROBE_RESULT = {
    "seq": 42, "uuid": "NM123", "version": "2024-01-01T00:00:00+00:00", "round": 28401120,
    "at": "2024-01-01T00:00:01+00:00", "problem": "timeout", "message": "Request timeout after 30 seconds",
}  # fmt: skip
TRIED: Named = {
    "ok": True, "summary": "This check is good after 125.5 ms", "problem": None, "message": None, "response_ms": 125.5,
    "status_code": 200, "evidence": {
        "request": "GET https://example.com", "request_headers": {"User-Agent": "Tocsin/1.0", "Accept": "*/*"},
        "response": "200 OK", "response_headers": {"Content-Type": "text/html"},
    },
    "body": "<!doctype html><title>Example Domain</title>", "findings": [],
}  # fmt: skip
TRIED_IN_VAIN: Named = {
    "ok": False, "summary": "This check failed: Connection refused", "problem": "connection_error",
    "message": "Connection refused", "response_ms": None, "status_code": None, "evidence": {
        "request": "CONNECT tcp://db.example.com:5432", "request_headers": None, "response": None,
        "response_headers": None,
    },
    "body": None, "findings": [],
}  # fmt: skip
SILENCE_REQUEST = {
    "name": "Sunday", "starts_at": "2099-01-01T00:00:00Z",
    "recurrence": {"rrule": "FREQ=WEEKLY;BYDAY=SU;BYHOUR=2;BYMINUTE=0", "duration": 7200, "timezone": "Europe/Vienna"},
    "resources": ["SRV123", "NM123"],
}  # fmt: skip
SILENCE = {
    "uuid": "SIL123", "state": "planned", **SILENCE_REQUEST, "ends_at": None, "integrations": None,
    "incident_types": None, "severity": None, "public": False,
    "next": [{"starts_at": "2099-01-04T01:00:00Z", "ends_at": "2099-01-04T03:00:00Z"}], **TIMES,
}  # fmt: skip
READY = {
    "status": "ok",
    "engines": [{"number": 7, "machine": "tocsin-1", "since": "2026-01-02T03:04:05.678Z"}],
    "worked_at": "2026-01-02T09:10:11.121Z", "took_ms": 41.3,
    "database": {
        "primary": "192.0.2.11:5432", "synchronous": True, "warnings": [],
        "standbys": [{"name": "db2", "synchronous": True, "behind_bytes": 0, "behind_seconds": 0.002}],
    },
}  # fmt: skip
USER = {"email": "ada@example.com", "name": "Ada", **TIMES}
PROJECT = {"uuid": "PRJ123", "name": "Production", "plan": "paid", "api_token": "tok_…", "is_current": True, **TIMES}
HOURS = {"timezone": "Europe/Vienna", "days": "MO-FR", "from": "08:00", "to": "20:00"}
ESCALATION = {"after": 600, "repeat": 1800, "incident_types": ["downtime"], "severity": "critical", "hours": HOURS}
ATTACHED = {**WEBHOOK, "attachment": ESCALATION}
PLANNED = {
    "integration_uuid": "INT123", "name": "Operations", "type": "Integrations::EmailIntegration",
    "attached": "directly", "after": 0, "repeat": None, "notified": True, "at": "2024-01-01T00:00:00Z",
    "why_not": None, "on_duty": None,
}  # fmt: skip
NOT_PLANNED = {
    **PLANNED, "integration_uuid": "INT456", "name": "Ann", "attached": "to everything", "notified": False, "at": None,
    "why_not": 'silence "Sunday" until 2024-01-01T04:00:00Z',
}  # fmt: skip
DRILL = {
    "uuid": "INC456",
    "incident": {
        **INCIDENT, "uuid": "INC456", "monitorable_type": "Server", "monitorable_uuid": "SRV123",
        "monitorable_name": "web-1", "incident_type": "drill",
        "error_message": "This is a drill. Please acknowledge it.",
        "request": None, "request_headers": None, "response": None, "response_headers": None,
    },
    "ends_at": "2024-01-01T00:30:00Z",
    "reached": [{
        "integration_uuid": "INT123", "integration_type": "Integrations::EmailIntegration", "on_behalf_of": None,
        "status": "delivered", "reason": None, "after_seconds": 1.2,
    }],
    "acknowledged": [{"by": "Ann", "at": "2024-01-01T00:01:00Z", "after_seconds": 60.0}],
}  # fmt: skip

HEARTBEAT: Named = {
    "uuid": "HB123", "name": "Nightly backup", "slug": "nightly-backup", "status": "up", "period": None,
    "cron": "0 3 * * *", "timezone": "Europe/Vienna", "grace": 3600, "methods": "", "paused": False,
    "ping_url": "https://tocsin.example.com/ping/5bf66975-d4c7-4bf5-bcc8-b8d8a82ea278",
    "last_ping_at": "2025-05-01T01:04:12.310Z", "last_success_at": "2025-05-01T01:04:12.310Z",
    "next_due_at": "2025-05-02T01:00:00.000Z", "last_duration_ms": 251204.5, "running_since": None,
    "open_incident_uuids": [], "explained_by": [], "depends_on": [], "created_at": "2025-04-01T10:00:00Z",
    "updated_at": "2025-04-01T10:00:00Z",
}  # fmt: skip

PING: Named = {
    "n": 42, "at": "2025-05-01T01:04:12.310Z", "kind": "success", "exit_status": 0,
    "rid": "123e4567-e89b-12d3-a456-426614174000", "method": "POST", "duration_ms": 251204.5, "body_bytes": 16,
    "has_body": True, "count": 1,
}  # fmt: skip

PING_KEY: Named = {
    "ping_key": "fqOOd6F4MMNuCEnzTU01wkJ9s2hYb7Qa",
    "ping_url": "https://tocsin.example.com/ping/fqOOd6F4MMNuCEnzTU01wkJ9s2hYb7Qa",
}

ALERT_INCIDENT = {
    **INCIDENT, "monitorable_type": "Source", "monitorable_uuid": "SRC123", "monitorable_name": "Our cluster",
    "incident_type": "DiskFull", "error_message": "The disk of db1 is full", "dedup_key": "c9a16bd6b9ef6c6b",
    "details": {"labels": {"alertname": "DiskFull", "instance": "db1.example.com:9100"}, "annotations": {}},
}  # fmt: skip
USAGE = {
    "project_uuid": "PRJ123", "project_name": "My project", "plan": "paid", "members": 2, "servers": 12,
    "network_monitors": 30, "heartbeats": 4, "sources": 1, "integrations": 3, "ongoing_incidents": 1, "incidents": 9,
    "delivered": {"Integrations::SmsIntegration": 4, "Integrations::WebhookIntegration": 18}, "dead": {},
}  # fmt: skip
