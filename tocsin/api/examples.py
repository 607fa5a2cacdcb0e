"""The examples of the description: the specification's to the letter, and some of our own for every other call."""

from __future__ import annotations

from tocsin.actions.phone_codes import NOT_VERIFIED
from tocsin.api import example_values as values
from tocsin.api.example_values import Named
from tocsin.domain.errors import TOO_LARGE
from tocsin.domain.resources.base import kinds

Operation = tuple[str, str]
"""Method and path, as the description names them."""

RESOURCES = [f"/api/v1{kind.path}/{{uuid}}" for kind in kinds().values()]
"""What every kind of resource has calls below."""

REQUESTS: dict[Operation, Named] = {
    ("POST", "/api/v1/integrations"): {
        "Webhook": values.create("Webhook", {"webhook_url": values.HOOK}),
        "Webhook, as its receiver wants it": values.create("Webhook", values.CHAT_SETTINGS),
        "Email": values.create("Email", {"email": "alerts@example.com"}),
        "SSH server restart": values.create("SshServerRestart", values.SSH_SETTINGS),
        "SMS": values.create("Sms", {"phone_number": "+1234567890", "verification_code": "123456"}),
        "Telegram": values.create("Telegram", {"bot_token": "123456:ABC-DEF1234ghIkl-zyx57W2v1u123ew11"}),
        "Apprise": values.create("Apprise", {"service": "gotifys", "fields": {"host": "example.com",
            "token": "A1b2C3"}}),
        "Apprise, pasted": values.create("Apprise", {"url": "gotifys://example.com/A1b2C3"}),
    },
    ("POST", "/api/v1/integrations/preview"): {"A webhook": values.create("Webhook", values.CHAT_SETTINGS)},
    ("POST", "/api/v1/integrations/{uuid}/trust_host_key"): {
        "The key that was offered": {"fingerprint": values.FINGERPRINT},
    },
    ("POST", "/api/v1/deliveries/{uuid}/redeliver"): {"Restart the server again": {"confirm": True}},
    ("POST", "/api/v1/integrations/{uuid}/redeliver"): {
        "What could not be delivered": {
            "from": "2024-01-01T00:00:00Z", "to": "2024-01-01T06:00:00Z", "status": "dead",
        },
    },
    ("POST", "/api/v1/integrations/{uuid}/overrides"): {
        "Ann takes over": {"override": {key: values.OVERRIDE[key] for key in ("integration_id", "from", "until")}},
    },
    ("PATCH", "/api/v1/integrations/{uuid}"): {
        "Rename": {"integration": {"name": "On-call"}},
        "Sum up more": {"integration": {"flood": {"incidents": 3, "seconds": 600}}},
    },
    ("POST", "/api/v1/integrations/sms/send_verification_code"): {"Number": {"phone_number": "+1234567890"}},
    **{("POST", f"{path}/integrations"): {"Attach": {"integration_id": "INT456"}} for path in RESOURCES},
    **{("PATCH", f"{path}/integrations/{{integration_id}}"): {"Escalate": values.ESCALATION} for path in RESOURCES},
    ("POST", "/api/v1/integrations/{uuid}/attach_all"): {"Escalate": values.ESCALATION},
    ("POST", "/api/v1/drills"): {"One": {"drill": {"resource": "SRV123", "message": "Our first one"}}},
    ("POST", "/api/v1/incidents"): {
        "One": {"incident": values.ALARM},
        "Several, all or none": {"incidents": [values.ALARM, {**values.ALARM, "incident_type": "raid_degraded"}]},
    },
    ("POST", "/api/v1/incidents/resolve"): {
        "One": {"incident": values.NAMED}, "Several": {"incidents": [values.NAMED]},
    },
    ("POST", "/api/v1/incidents/{uuid}/acknowledge"): {"Until it is resolved": {}, "For an hour": {"for": 3600}},
    ("POST", "/api/v1/incidents/{uuid}/snooze"): {"Until then": {"until": "2099-01-01T08:00:00Z"}},
    ("POST", "/api/v1/server_metrics"): {"Report": values.REPORT, "With all there is": values.FULL_REPORT},
    ("PATCH", "/api/v1/servers/{uuid}"): {
        "Alerts": {"server": {"alerts": {"cpu": {"threshold": 90, "for": 300}, "downtime": {"after": 180}}}},
        "Switch one off": {"server": {"alerts": {"ram": None}}},
        "One file system, swap, failed units": {
            "server": {"alerts": {"disks": {"/srv": {"threshold": 80, "for": 0}, "/backup": None}, "swap": {},
                                  "unit_failed": {"for": 300}}},
        },
        "Warn first": {"server": {"alerts": {"disk": {"warning": {"threshold": 80, "for": 900}}}}},
        "Dependencies": {"server": {"depends_on": ["NM123"]}},
    },
    ("POST", "/api/v1/network_monitors"): {
        "A site": {"network_monitor": {"name": "Website Uptime", "url": "https://example.com", "interval": 60}},
        "A port": {"network_monitor": {"url": "tcp://db.example.com:5432", "check_type": "tcp"}},
        "A site and its domain": {"network_monitor": {"url": "https://www.example.com", "domain_days": 30}},
        "A certificate": {"network_monitor": {"url": "tls://mx.example.com:25?starttls=smtp", "tls_days": 21}},
        "A name": {"network_monitor": {"url": "dns:example.com?type=MX", "expected": ["10 mx.example.com"]}},
        "A ping": {"network_monitor": {"url": "ping://router.example.com", "packets": 5, "max_loss": 20}},
        "A health document behind a token": {"network_monitor": values.HEALTH_MONITOR},
        "From several places": {
            "network_monitor": {"url": "https://example.com", "locations": ["wien", "graz", "here"]},
        },
        "A mail server's greeting": {"network_monitor": {"url": "tcp://mail.example.com:25", "expect": "ESMTP"}},
    },
    ("POST", "/api/v1/network_monitors/try"): {
        "A site": {"network_monitor": {"url": "https://example.com", "keyword": "Example Domain"}},
        "A port": {"network_monitor": {"url": "tcp://db.example.com:5432"}},
    },
    ("POST", "/probe/v1/work"): {
        "Everything": {"cursor": None}, "What is new": {"cursor": "17.0", "wait": 25, "version": "1.0.0"},
    },
    ("POST", "/probe/v1/results"): {"One": {"results": [values.PROBE_RESULT]}},
    ("POST", "/api/v1/heartbeats"): {
        "Once a day": {"heartbeat": {"name": "Nightly backup"}},
        "By cron": {"heartbeat": {"name": "Nightly backup", "slug": "nightly-backup", "cron": "0 3 * * *",
                                  "timezone": "Europe/Vienna", "grace": 3600}},
    },
    ("PATCH", "/api/v1/heartbeats/{uuid}"): {
        "Every five minutes": {"heartbeat": {"period": 300, "grace": 60}},
        "Pause": {"heartbeat": {"paused": True}},
        "Behind a router": {"heartbeat": {"depends_on": ["NM123"]}},
    },
    ("POST", "/api/v1/silences"): {
        "Every Sunday": {"silence": values.SILENCE_REQUEST},
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
    ("GET", "/api/v1/integrations"): {200: {"A project's integrations": [values.LISTED]}},
    ("POST", "/api/v1/integrations"): {
        201: {"Webhook": values.WEBHOOK, "Email": values.EMAIL, "SSH server restart": values.SSH, "SMS": values.SMS},
    },
    ("POST", "/api/v1/integrations/preview"): {200: {"One of the events": {"data": [values.PREVIEW]}}},
    ("GET", "/api/v1/integrations/{uuid}"): {
        200: {"Webhook": values.WEBHOOK, "Slack (after OAuth completion)": values.SLACK, "Telegram": values.TELEGRAM},
    },
    ("PATCH", "/api/v1/integrations/{uuid}"): {200: {"Renamed": {**values.WEBHOOK, "name": "On-call"}}},
    ("DELETE", "/api/v1/integrations/{uuid}"): {
        422: {"A system integration": {"error": "This integration cannot be deleted."}},
    },
    ("GET", "/api/v1/integrations/{uuid}/overrides"): {200: {"All": {"data": [values.OVERRIDE]}}},
    ("POST", "/api/v1/integrations/{uuid}/overrides"): {201: {"Ann takes over": values.OVERRIDE}},
    ("GET", "/api/v1/integrations/{uuid}/schedule"): {
        200: {"Two weeks": {
            "data": [{"integration_uuid": "INT123", "name": "ann@example.com", "starts_at": "2099-06-01T07:00:00Z",
                      "ends_at": "2099-06-08T07:00:00Z", "override": False}],
            "meta": {"from": "2099-06-01T07:00:00Z", "to": "2099-06-15T07:00:00Z", "on_duty": "INT123",
                     "until": "2099-06-08T07:00:00Z", "feed_url": values.FEED},
        }},
    },
    ("POST", "/api/v1/integrations/{uuid}/rotate_feed"): {200: {"New address": {"feed_url": values.FEED}}},
    ("POST", "/api/v1/integrations/{uuid}/test"): {
        202: {"Queued": {**values.WAITING, "event": "test", "incident_uuid": None}},
    },
    ("POST", "/api/v1/integrations/{uuid}/trust_host_key"): {
        200: {"Trusted": {**values.SSH, "settings": {**values.SSH_SETTINGS, "password": "********",
                                              "host_key_fingerprint": values.FINGERPRINT}}},
    },
    ("POST", "/api/v1/integrations/{uuid}/telegram_code"): {
        200: {"Made": {
            "code": values.TELEGRAM_CODE,
            "text": f"/start {values.TELEGRAM_CODE}",
            "url": f"https://t.me/example_alerts_bot?start={values.TELEGRAM_CODE}",
            "group_url": f"https://t.me/example_alerts_bot?startgroup={values.TELEGRAM_CODE}",
            "expires_at": "2024-01-01T00:10:00Z",
            "problem": None,
        }},
    },
    ("POST", "/api/v1/integrations/{uuid}/rotate_secret"): {200: {"New secret": {"secret": "whsec_…"}}},
    ("POST", "/api/v1/integrations/{uuid}/attach_all"): {200: {"Attached": values.WEBHOOK}},
    ("POST", "/api/v1/integrations/{uuid}/enable"): {200: {"Enabled": values.WEBHOOK}},
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
        200: {"One page": {"data": [{"service": "gotifys", "label": "Gotify"}], "meta": values.META}},
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
    **{("GET", f"{path}/integrations"): {200: {"Attached": [values.WEBHOOK]}} for path in RESOURCES},
    **{
        ("POST", f"{path}/integrations"): {
            201: {"Attached": values.WEBHOOK}, 200: {"Attached before": values.WEBHOOK},
        }
        for path in RESOURCES
    },
    **{
        ("PATCH", f"{path}/integrations/{{integration_id}}"): {200: {"Changed": values.ATTACHED}} for path in RESOURCES
    },
    **{
        ("GET", f"{path}/notification_plan"): {200: {"Everybody": {"data": [values.PLANNED, values.NOT_PLANNED]}}}
        for path in RESOURCES
    },
    ("POST", "/api/v1/drills"): {201: {"Began": values.DRILL}},
    ("GET", "/api/v1/drills/{uuid}"): {200: {"One": values.DRILL}},
    ("GET", "/api/v1/incidents"): {200: {"One page": {"data": [values.INCIDENT], "meta": values.META}}},
    ("POST", "/api/v1/incidents"): {
        201: {"One": values.INCIDENT, "Several": {"data": [values.INCIDENT], "meta": {"opened": 1,
            "already_ongoing": 0}}},
        200: {"Ongoing already": values.INCIDENT},
    },
    ("POST", "/api/v1/incidents/resolve"): {
        200: {"Resolved": {"data": [values.RESOLVED], "not_ongoing": [], "meta": {"resolved": 1, "not_ongoing": 0}},
              "Nothing was ongoing": {"data": [], "not_ongoing": [values.NAMED], "meta": {"resolved": 0,
                  "not_ongoing": 1}}},
    },
    ("GET", "/api/v1/incidents/{uuid}"): {200: {
        "Ongoing": values.INCIDENT, "Resolved": values.RESOLVED, "An alert of a source": values.ALERT_INCIDENT,
    }},
    ("POST", "/api/v1/incidents/{uuid}/resolve"): {200: {"Resolved": values.RESOLVED}},
    ("POST", "/api/v1/incidents/{uuid}/acknowledge"): {200: {"Acknowledged": values.ACKNOWLEDGED}},
    ("POST", "/api/v1/incidents/{uuid}/unacknowledge"): {200: {"Nobody has it": values.INCIDENT}},
    ("POST", "/api/v1/incidents/{uuid}/snooze"): {200: {"Snoozed": values.SNOOZED}},
    ("GET", "/api/v1/integrations/{uuid}/deliveries"): {
        200: {"One page": {"data": [values.DELIVERY], "meta": values.META}},
    },
    ("GET", "/api/v1/incidents/{uuid}/deliveries"): {
        200: {"One page": {"data": [values.DELIVERY], "meta": values.META}},
    },
    ("GET", "/api/v1/deliveries/{uuid}"): {
        200: {"Delivered": {**values.DELIVERY, "attempts": [values.ATTEMPT], "late": None}}
    },
    ("POST", "/api/v1/deliveries/{uuid}/redeliver"): {
        202: {"Queued again": {**values.WAITING, "redelivery_of": "DLV122"}},
    },
    ("POST", "/api/v1/integrations/{uuid}/redeliver"): {
        202: {"Started": {**values.REPLAY, "queued": 0, "delivered": 0, "dead": 0}},
    },
    ("GET", "/api/v1/integrations/{uuid}/replays"): {200: {"One page": {"data": [values.REPLAY], "meta": values.META}}},
    ("GET", "/api/v1/replays/{uuid}"): {200: {"Running": values.REPLAY, "Stopped": values.STOPPED}},
    ("POST", "/api/v1/replays/{uuid}/stop"): {200: {"Stopped": values.STOPPED}},
    ("POST", "/api/v1/server_metrics"): {
        201: {
            "All taken": {"success_count": 2, "failure_count": 0, "message": "All metrics were successfully created"},
            "Some not": {"success_count": 1, "failure_count": 1, "message": "Some metrics could not be created",
                         "errors": [{"field": "metrics[1]", "message": "the value is not a number"}]},
        },
    },
    ("GET", "/api/v1/servers"): {200: {"A project's servers": [values.SERVER]}},
    ("GET", "/api/v1/servers/{uuid}"): {200: {"One": values.SERVER}},
    ("PATCH", "/api/v1/servers/{uuid}"): {200: {"Changed": values.SERVER}},
    ("GET", "/api/v1/servers/{uuid}/metrics"): {
        200: {"One hour": {
            "data": [{"metric": "cpu_used", "timestamp": "2025-05-01T10:00:00Z", "value": 70.0}],
            "meta": {"from": "2025-05-01T10:00:00Z", "to": "2025-05-01T11:00:00Z", "resolution": 60},
        }},
    },
    ("GET", "/api/v1/network_monitors"): {
        200: {"One page": {"data": [values.MONITOR], "meta": {**values.META, "sort": "status"}}},
    },
    ("POST", "/api/v1/network_monitors"): {201: {"Created": values.MONITOR_SHOWN}},
    ("POST", "/api/v1/network_monitors/try"): {200: {"Good": values.TRIED, "Failed": values.TRIED_IN_VAIN}},
    ("GET", "/api/v1/network_monitors/{uuid}"): {
        200: {"One": values.MONITOR_SHOWN, "From several places": values.PLACED_MONITOR},
    },
    ("POST", "/probe/v1/work"): {200: {"A monitor": values.PROBE_WORK}},
    ("POST", "/probe/v1/results"): {200: {"Stored": {"accepted": 42, "gone": []}}},
    ("PATCH", "/api/v1/network_monitors/{uuid}"): {
        200: {"Paused": {**values.MONITOR_SHOWN, "status": "paused", "paused": True}},
    },
    ("GET", "/api/v1/heartbeats"): {
        200: {"One page": {"data": [values.HEARTBEAT], "meta": {**values.META, "sort": "status"}}},
    },
    ("POST", "/api/v1/heartbeats"): {201: {"Created": {
        **values.HEARTBEAT, "status": "new", "last_ping_at": None, "last_success_at": None, "next_due_at": None,
        "last_duration_ms": None,
    }}},
    ("GET", "/api/v1/heartbeats/{uuid}"): {200: {"One": values.HEARTBEAT}},
    ("PATCH", "/api/v1/heartbeats/{uuid}"): {
        200: {"Paused": {**values.HEARTBEAT, "status": "paused", "paused": True, "next_due_at": None}},
    },
    ("POST", "/api/v1/heartbeats/{uuid}/rotate"): {200: {"New address": values.HEARTBEAT}},
    ("GET", "/api/v1/heartbeats/{uuid}/pings"): {200: {"One page": {"data": [values.PING], "meta": values.META}}},
    ("GET", "/api/v1/heartbeats/{uuid}/pings/{n}/body"): {200: {"One": {"n": 42, "body": "12 files copied\n"}}},
    ("GET", "/api/v1/ping_key"): {200: {"One": values.PING_KEY, "None yet": {"ping_key": None, "ping_url": None}}},
    ("POST", "/api/v1/ping_key/rotate"): {200: {"New": values.PING_KEY}},
    ("GET", "/api/v1/silences"): {200: {"One page": {"data": [values.SILENCE], "meta": values.META}}},
    ("POST", "/api/v1/silences"): {201: {"Created": values.SILENCE}},
    ("GET", "/api/v1/silences/{uuid}"): {200: {"One": values.SILENCE}},
    ("PATCH", "/api/v1/silences/{uuid}"): {200: {"Changed": {**values.SILENCE, "public": True}}},
    ("POST", "/api/v1/silences/{uuid}/end"): {
        200: {"Ended": {**values.SILENCE, "state": "ended", "ends_at": "2099-01-01T00:00:00Z", "next": []}},
    },
    ("GET", "/api/v1/usage"): {
        200: {
            "One page": {
                "data": [values.USAGE],
                "meta": {**values.META, "from": "2025-05-01T00:00:00Z", "to": "2025-05-02T00:00:00Z"},
            },
        },
    },
    ("GET", "/api/v1/projects"): {200: {"A user's projects": [values.PROJECT]}},
    ("POST", "/api/v1/projects/{uuid}/switch"): {200: {"Switched": values.PROJECT}},
    ("POST", "/api/v1/users"): {201: {"Created": {"message": "User created successfully", "user": values.USER}}},
    ("POST", "/api/v1/users/sign_in"): {200: {"Signed in": {"token": "utk_…", "user": values.USER}}},
    ("GET", "/health/live"): {200: {"Running": {"status": "ok"}}},
    ("GET", "/health/ready"): {200: {"Ready": values.READY}},
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
