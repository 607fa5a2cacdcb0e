"""The examples of the description: the specification's to the letter, and some of our own for every other call."""

from __future__ import annotations

from typing import Any

from tocsin.actions.phone_codes import NOT_VERIFIED
from tocsin.domain.errors import TOO_LARGE

Operation = tuple[str, str]
"""Method and path, as the description names them."""

Named = dict[str, Any]
"""Examples by what they show."""

HOOK = "https://hooks.slack.com/services/YOUR/WEBHOOK/URL"
TIMES = {"created_at": "2024-01-01T00:00:00Z", "updated_at": "2024-01-01T00:00:00Z"}


def _integration(kind: str, name: str, settings: Named, *, editable: bool = True) -> Named:
    return {
        "uuid": "INT123",
        "type": f"Integrations::{kind}Integration",
        "name": name,
        "settings": settings,
        "editable": editable,
        "deletable": True,
        **TIMES,
    }


def _create(kind: str, settings: Named) -> Named:
    return {"integration": {"type": f"Integrations::{kind}Integration", "settings": settings}}


WEBHOOK = _integration("Webhook", HOOK, {"webhook_url": HOOK})
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
EMAIL = _integration("Email", "alerts@example.com", {"email": "alerts@example.com"})
SSH_SETTINGS = {"ip": "192.168.1.100", "username": "admin", "password": "secure_password", "port": 22}
FINGERPRINT = "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU"
SSH = _integration("SshServerRestart", "192.168.1.100 (admin)", SSH_SETTINGS)
SMS = _integration("Sms", "SMS +1234567890", {"phone_number": "+1234567890"})
SLACK_SETTINGS = {
    "bot_token": "xoxb-...",
    "user_token": "xoxp-...",
    "channel_id": "C1234567890",
    "webhook_url": "https://hooks.slack.com/services/...",
    "bot_user_id": "U1234567890",
}
SLACK = _integration("Slack", "My Workspace #alerts", SLACK_SETTINGS, editable=False)
TELEGRAM = _integration(
    "Telegram", "Telegram Operations",
    {"bot_token": "********", "bot_username": "example_alerts_bot", "chat_id": -1001234567890,
     "chat_name": "Operations"},
)  # fmt: skip
TELEGRAM_CODE = "K5QWC2LMOJSXGYLTN5XA"
LISTED = _integration("Webhook", "Slack Webhook", {"webhook_url": "https://hooks.slack.com/services/..."})

OVERRIDE = {
    "id": "OVR123", "integration_id": "INT123", "from": "2099-06-01T07:00:00Z", "until": "2099-06-02T07:00:00Z",
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
    "redelivery_of": None,
    "created_at": "2024-01-01T00:00:00.123Z",
    "due_at": None,
    "finished_at": "2024-01-01T00:00:00.131Z",
    "latency_ms": 8.2,
    "attempts_count": 1,
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
    "memory_total_bytes": 17179869184, "agent_version": "1.2.3",
    "last_metrics": {"cpu_used": {"value": 70.0, "timestamp": "2025-05-01T10:00:00Z"}},
    "alerts": {"cpu": {"threshold": 90, "for": 300}, "ram": {"threshold": 90, "for": 300},
               "disk": {"threshold": 90, "for": 0}, "downtime": {"after": 180}},
    "depends_on": ["NM123"], "explained_by": [],
    **TIMES,
}  # fmt: skip
REPORT = {
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
MONITOR = {
    "id": 1, "uuid": "NM123", "name": "Website Uptime", "url": "https://example.com", "check_type": "http",
    "status": "success", "explained_by": [], "uptime": 99.95, "response_time": 125.5,
    "last_check": "2024-01-02T12:30:00Z", "open_incident_uuids": ["INC123"], "created_at": "2024-01-01T00:00:00Z",
}  # fmt: skip
MONITOR_SHOWN = {
    **MONITOR, "interval": 60, "timeout": 30, "confirmations": 2, "expected_status": "2xx", "keyword": None,
    "paused": False, "depends_on": [], "updated_at": "2024-01-01T00:00:00Z",
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
USER = {"email": "ada@example.com", "name": "Ada", **TIMES}
PROJECT = {"uuid": "PRJ123", "name": "Production", "plan": "paid", "api_token": "tok_…", "is_current": True, **TIMES}

REQUESTS: dict[Operation, Named] = {
    ("POST", "/api/v1/integrations"): {
        "Webhook": _create("Webhook", {"webhook_url": HOOK}),
        "Webhook, as its receiver wants it": _create("Webhook", CHAT_SETTINGS),
        "Email": _create("Email", {"email": "alerts@example.com"}),
        "SSH server restart": _create("SshServerRestart", SSH_SETTINGS),
        "SMS": _create("Sms", {"phone_number": "+1234567890", "verification_code": "123456"}),
        "Telegram": _create("Telegram", {"bot_token": "123456:ABC-DEF1234ghIkl-zyx57W2v1u123ew11"}),
        "Apprise": _create("Apprise", {"service": "gotifys", "fields": {"host": "example.com", "token": "A1b2C3"}}),
        "Apprise, pasted": _create("Apprise", {"url": "gotifys://example.com/A1b2C3"}),
    },
    ("POST", "/api/v1/integrations/preview"): {"A webhook": _create("Webhook", CHAT_SETTINGS)},
    ("POST", "/api/v1/integrations/{uuid}/trust_host_key"): {"The key that was offered": {"fingerprint": FINGERPRINT}},
    ("POST", "/api/v1/deliveries/{uuid}/redeliver"): {"Restart the server again": {"confirm": True}},
    ("POST", "/api/v1/integrations/{uuid}/redeliver"): {
        "What could not be delivered": {
            "from": "2024-01-01T00:00:00Z", "to": "2024-01-01T06:00:00Z", "status": "dead",
        },
    },
    ("POST", "/api/v1/integrations/{uuid}/overrides"): {
        "Ann takes over": {"override": {key: OVERRIDE[key] for key in ("integration_id", "from", "until")}},
    },
    ("PATCH", "/api/v1/integrations/{uuid}"): {"Rename": {"integration": {"name": "On-call"}}},
    ("POST", "/api/v1/integrations/sms/send_verification_code"): {"Number": {"phone_number": "+1234567890"}},
    ("POST", "/api/v1/servers/{uuid}/integrations"): {"Attach": {"integration_id": "INT456"}},
    ("POST", "/api/v1/network_monitors/{uuid}/integrations"): {"Attach": {"integration_id": "INT456"}},
    ("POST", "/api/v1/incidents"): {
        "One": {"incident": ALARM},
        "Several, all or none": {"incidents": [ALARM, {**ALARM, "incident_type": "raid_degraded"}]},
    },
    ("POST", "/api/v1/incidents/resolve"): {"One": {"incident": NAMED}, "Several": {"incidents": [NAMED]}},
    ("POST", "/api/v1/incidents/{uuid}/acknowledge"): {"Until it is resolved": {}, "For an hour": {"for": 3600}},
    ("POST", "/api/v1/incidents/{uuid}/snooze"): {"Until then": {"until": "2099-01-01T08:00:00Z"}},
    ("POST", "/api/v1/server_metrics"): {"Report": REPORT},
    ("PATCH", "/api/v1/servers/{uuid}"): {
        "Alerts": {"server": {"alerts": {"cpu": {"threshold": 90, "for": 300}, "downtime": {"after": 180}}}},
        "Switch one off": {"server": {"alerts": {"ram": None}}},
        "Dependencies": {"server": {"depends_on": ["NM123"]}},
    },
    ("POST", "/api/v1/network_monitors"): {
        "A site": {"network_monitor": {"name": "Website Uptime", "url": "https://example.com", "interval": 60}},
        "A port": {"network_monitor": {"url": "tcp://db.example.com:5432", "check_type": "tcp"}},
    },
    ("POST", "/api/v1/silences"): {
        "Every Sunday": {"silence": SILENCE_REQUEST},
        "Everything, from now": {"silence": {"name": "Maintenance", "ends_at": "2099-01-01T02:00:00Z"}},
        "Quiet hours": {"silence": {
            "name": "Nights", "integrations": ["INT123"], "severity": "warning",
            "recurrence": {"rrule": "FREQ=DAILY;BYHOUR=22;BYMINUTE=0;BYSECOND=0", "duration": 28800,
                           "timezone": "Europe/Vienna"},
        }},
    },
    ("PATCH", "/api/v1/silences/{uuid}"): {"Show it on status pages": {"silence": {"public": True}}},
    ("PATCH", "/api/v1/network_monitors/{uuid}"): {
        "Pause": {"network_monitor": {"paused": True}},
        "Behind a router, and two uplinks": {"network_monitor": {"depends_on": ["NM123", ["NM456", "NM789"]]}},
    },
    ("POST", "/api/v1/users"): {
        "In full": {"user": {"email": "ada@example.com", "name": "Ada", "password": "correct horse",
                             "password_confirmation": "correct horse", "first_website": "https://example.com"}},
        "Short": {"user": {"email": "ada@example.com"}},
    },
    ("POST", "/api/v1/users/sign_in"): {"Sign in": {"user": {"email": "ada@example.com", "password": "correct horse"}}},
}  # fmt: skip

ANSWERS: dict[Operation, dict[int, Named]] = {
    ("GET", "/api/v1/integrations"): {200: {"A project's integrations": [LISTED]}},
    ("POST", "/api/v1/integrations"): {
        201: {"Webhook": WEBHOOK, "Email": EMAIL, "SSH server restart": SSH, "SMS": SMS},
    },
    ("POST", "/api/v1/integrations/preview"): {200: {"One of the events": {"data": [PREVIEW]}}},
    ("GET", "/api/v1/integrations/{uuid}"): {
        200: {"Webhook": WEBHOOK, "Slack (after OAuth completion)": SLACK, "Telegram": TELEGRAM},
    },
    ("PATCH", "/api/v1/integrations/{uuid}"): {200: {"Renamed": {**WEBHOOK, "name": "On-call"}}},
    ("DELETE", "/api/v1/integrations/{uuid}"): {
        422: {"A system integration": {"error": "This integration cannot be deleted."}},
    },
    ("GET", "/api/v1/integrations/{uuid}/overrides"): {200: {"All": {"data": [OVERRIDE]}}},
    ("POST", "/api/v1/integrations/{uuid}/overrides"): {201: {"Ann takes over": OVERRIDE}},
    ("GET", "/api/v1/integrations/{uuid}/schedule"): {
        200: {"Two weeks": {
            "data": [{"integration_uuid": "INT123", "name": "ann@example.com", "starts_at": "2099-06-01T07:00:00Z",
                      "ends_at": "2099-06-08T07:00:00Z", "override": False}],
            "meta": {"from": "2099-06-01T07:00:00Z", "to": "2099-06-15T07:00:00Z", "on_duty": "INT123",
                     "until": "2099-06-08T07:00:00Z", "feed_url": FEED},
        }},
    },
    ("POST", "/api/v1/integrations/{uuid}/rotate_feed"): {200: {"New address": {"feed_url": FEED}}},
    ("POST", "/api/v1/integrations/{uuid}/test"): {
        202: {"Queued": {**WAITING, "event": "test", "incident_uuid": None}},
    },
    ("POST", "/api/v1/integrations/{uuid}/trust_host_key"): {
        200: {"Trusted": {**SSH, "settings": {**SSH_SETTINGS, "password": "********",
                                              "host_key_fingerprint": FINGERPRINT}}},
    },
    ("POST", "/api/v1/integrations/{uuid}/telegram_code"): {
        200: {"Made": {
            "code": TELEGRAM_CODE,
            "text": f"/start {TELEGRAM_CODE}",
            "url": f"https://t.me/example_alerts_bot?start={TELEGRAM_CODE}",
            "group_url": f"https://t.me/example_alerts_bot?startgroup={TELEGRAM_CODE}",
            "expires_at": "2024-01-01T00:10:00Z",
            "problem": None,
        }},
    },
    ("POST", "/api/v1/integrations/{uuid}/rotate_secret"): {200: {"New secret": {"secret": "whsec_…"}}},
    ("POST", "/api/v1/integrations/{uuid}/attach_all"): {200: {"Attached": WEBHOOK}},
    ("POST", "/api/v1/integrations/{uuid}/enable"): {200: {"Enabled": WEBHOOK}},
    ("GET", "/api/v1/integrations/{uuid}/health"): {
        200: {"Well": {"status": "ok", "reason": None, "last_delivered_at": "2024-01-01T00:00:00Z",
                       "failing_since": None, "outstanding": 0}},
    },
    ("POST", "/api/v1/integrations/sms/send_verification_code"): {
        200: {"Sent": {"success": True, "message": "Verification code sent successfully"}},
        403: {
            "Free plan": {"success": False, "error": "paid_plan_required",
                          "message": "SMS integrations require a paid plan"},
            "Unverified": {"success": False, "error": "address_not_verified", "message": NOT_VERIFIED},
        },
        422: {"No number": {"success": False, "error": "phone_number_required", "message": "Phone number is required"}},
    },
    ("GET", "/api/v1/integrations/apprise/services"): {
        200: {"One page": {"data": [{"service": "gotifys", "label": "Gotify"}], "meta": META}},
    },
    ("GET", "/api/v1/integrations/apprise/services/{name}"): {200: {"Gotify": {
        "service": "gotifys", "label": "Gotify", "help_url": "https://appriseit.com/services/gotify/",
        "fields": [
            {"name": "host", "label": "Hostname", "type": "string", "required": True, "secret": False, "values": []},
            {"name": "token", "label": "Token", "type": "string", "required": True, "secret": True, "values": []},
        ],
    }}},
    ("POST", "/api/v1/integrations/slack/initiate"): {
        200: {"Begun": {
            "oauth_url": "https://slack.com/oauth/v2/authorize?client_id=...&redirect_uri=...&state=...",
            "state": "abc123def456...",
            "redirect_uri": "https://app.uptinio.com/auth/slack/callback?project_uuid=PROJECT_UUID",
        }},
    },
    ("GET", "/api/v1/servers/{uuid}/integrations"): {200: {"Attached": [WEBHOOK]}},
    ("POST", "/api/v1/servers/{uuid}/integrations"): {201: {"Attached": WEBHOOK}, 200: {"Attached before": WEBHOOK}},
    ("GET", "/api/v1/network_monitors/{uuid}/integrations"): {200: {"Attached": [WEBHOOK]}},
    ("POST", "/api/v1/network_monitors/{uuid}/integrations"): {
        201: {"Attached": WEBHOOK}, 200: {"Attached before": WEBHOOK},
    },
    ("GET", "/api/v1/incidents"): {200: {"One page": {"data": [INCIDENT], "meta": META}}},
    ("POST", "/api/v1/incidents"): {
        201: {"One": INCIDENT, "Several": {"data": [INCIDENT], "meta": {"opened": 1, "already_ongoing": 0}}},
        200: {"Ongoing already": INCIDENT},
    },
    ("POST", "/api/v1/incidents/resolve"): {
        200: {"Resolved": {"data": [RESOLVED], "not_ongoing": [], "meta": {"resolved": 1, "not_ongoing": 0}},
              "Nothing was ongoing": {"data": [], "not_ongoing": [NAMED], "meta": {"resolved": 0, "not_ongoing": 1}}},
    },
    ("GET", "/api/v1/incidents/{uuid}"): {200: {"Ongoing": INCIDENT, "Resolved": RESOLVED}},
    ("POST", "/api/v1/incidents/{uuid}/resolve"): {200: {"Resolved": RESOLVED}},
    ("POST", "/api/v1/incidents/{uuid}/acknowledge"): {200: {"Acknowledged": ACKNOWLEDGED}},
    ("POST", "/api/v1/incidents/{uuid}/unacknowledge"): {200: {"Nobody has it": INCIDENT}},
    ("POST", "/api/v1/incidents/{uuid}/snooze"): {200: {"Snoozed": SNOOZED}},
    ("GET", "/api/v1/integrations/{uuid}/deliveries"): {200: {"One page": {"data": [DELIVERY], "meta": META}}},
    ("GET", "/api/v1/incidents/{uuid}/deliveries"): {200: {"One page": {"data": [DELIVERY], "meta": META}}},
    ("GET", "/api/v1/deliveries/{uuid}"): {200: {"Delivered": {**DELIVERY, "attempts": [ATTEMPT]}}},
    ("POST", "/api/v1/deliveries/{uuid}/redeliver"): {202: {"Queued again": {**WAITING, "redelivery_of": "DLV122"}}},
    ("POST", "/api/v1/integrations/{uuid}/redeliver"): {
        202: {"Started": {**REPLAY, "queued": 0, "delivered": 0, "dead": 0}},
    },
    ("GET", "/api/v1/integrations/{uuid}/replays"): {200: {"One page": {"data": [REPLAY], "meta": META}}},
    ("GET", "/api/v1/replays/{uuid}"): {200: {"Running": REPLAY, "Stopped": STOPPED}},
    ("POST", "/api/v1/replays/{uuid}/stop"): {200: {"Stopped": STOPPED}},
    ("POST", "/api/v1/server_metrics"): {
        201: {
            "All taken": {"success_count": 2, "failure_count": 0, "message": "All metrics were successfully created"},
            "Some not": {"success_count": 1, "failure_count": 1, "message": "Some metrics could not be created",
                         "errors": [{"field": "metrics[1]", "message": "the value is not a number"}]},
        },
    },
    ("GET", "/api/v1/servers"): {200: {"A project's servers": [SERVER]}},
    ("GET", "/api/v1/servers/{uuid}"): {200: {"One": SERVER}},
    ("PATCH", "/api/v1/servers/{uuid}"): {200: {"Changed": SERVER}},
    ("GET", "/api/v1/servers/{uuid}/metrics"): {
        200: {"One hour": {
            "data": [{"metric": "cpu_used", "timestamp": "2025-05-01T10:00:00Z", "value": 70.0}],
            "meta": {"from": "2025-05-01T10:00:00Z", "to": "2025-05-01T11:00:00Z", "resolution": 60},
        }},
    },
    ("GET", "/api/v1/network_monitors"): {200: {"One page": {"data": [MONITOR], "meta": {**META, "sort": "status"}}}},
    ("POST", "/api/v1/network_monitors"): {201: {"Created": MONITOR_SHOWN}},
    ("GET", "/api/v1/network_monitors/{uuid}"): {200: {"One": MONITOR_SHOWN}},
    ("PATCH", "/api/v1/network_monitors/{uuid}"): {
        200: {"Paused": {**MONITOR_SHOWN, "status": "paused", "paused": True}},
    },
    ("GET", "/api/v1/silences"): {200: {"One page": {"data": [SILENCE], "meta": META}}},
    ("POST", "/api/v1/silences"): {201: {"Created": SILENCE}},
    ("GET", "/api/v1/silences/{uuid}"): {200: {"One": SILENCE}},
    ("PATCH", "/api/v1/silences/{uuid}"): {200: {"Changed": {**SILENCE, "public": True}}},
    ("POST", "/api/v1/silences/{uuid}/end"): {
        200: {"Ended": {**SILENCE, "state": "ended", "ends_at": "2099-01-01T00:00:00Z", "next": []}},
    },
    ("GET", "/api/v1/projects"): {200: {"A user's projects": [PROJECT]}},
    ("POST", "/api/v1/projects/{uuid}/switch"): {200: {"Switched": PROJECT}},
    ("POST", "/api/v1/users"): {201: {"Created": {"message": "User created successfully", "user": USER}}},
    ("POST", "/api/v1/users/sign_in"): {200: {"Signed in": {"token": "utk_…", "user": USER}}},
    ("GET", "/health/live"): {200: {"Running": {"status": "ok"}}},
    ("GET", "/health/ready"): {200: {"Ready": {"status": "ok"}}},
    ("GET", "/metrics"): {
        200: {"One of them": "# TYPE tocsin_incidents_ongoing gauge\ntocsin_incidents_ongoing 0.0\n"},
    },
}  # fmt: skip

PAYLOAD = {
    "resource_name": "https://example.com",
    "resource_url": "https://example.com",
    "resource_type": "NetworkMonitor",
    "incident_type": "timeout",
    "incident_status": "ongoing",
    "incident_duration": None,
    "incident_message": "Request timeout after 30 seconds",
}
"""What a webhook receives."""

ERRORS: dict[int, Named] = {
    400: {"error": "invalid_request", "message": "The body is not valid JSON in UTF-8", "details": []},
    401: {"error": "unauthorized", "message": "Invalid or missing authentication token", "details": []},
    403: {"error": "forbidden", "message": "You may read this project, but not change it", "details": []},
    404: {"error": "integration_not_found", "message": "The specified integration does not exist", "details": []},
    413: {"error": "payload_too_large", "message": TOO_LARGE, "details": []},
    422: {
        "error": "invalid_request",
        "message": "settings.webhook_url is required",
        "details": [{"field": "settings.webhook_url", "message": "is required"}],
    },
    429: {"error": "too_many_requests", "message": "Too many requests; try again later", "details": []},
    503: {"error": "unavailable", "message": "The database cannot be reached at present", "details": []},
}
