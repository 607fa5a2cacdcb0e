"""The examples of calls about sources, and of what is sent to them."""

from __future__ import annotations

from typing import Any

from tocsin.api import example_values as values
from tocsin.api.example_values import Named

Operation = tuple[str, str]

SOURCE: dict[str, Any] = {
    "uuid": "SRC123", "name": "Our cluster", "type": "alertmanager",
    "url": "https://tocsin.example.com/in/8sZ1c0Qv7Tn4Jk2LwXy9Rb5Gd3Hf6MpA", "settings": {"ignore_labels": ["replica"]},
    "signing_secret": None, "stale_after": None, "depends_on": [], "alerts_ongoing": 1,
    "last_body_at": "2025-05-01T10:00:00Z", "created_at": "2025-05-01T09:00:00Z", "updated_at": "2025-05-01T09:00:00Z",
}  # fmt: skip
MAPPED = {
    "type": "generic", "name": "Backups",
    "settings": {"map": {"dedup_key": "$.job.id", "status": "$.state", "title": "$.job.name", "severity": "warning"}},
}  # fmt: skip
LABELS = {"alertname": "DiskFull", "instance": "db1.example.com:9100", "severity": "critical"}
ANNOTATIONS = {"summary": "The disk of db1 is full", "description": "98 % of / are used"}
TOOK = {"status": "success", "opened": 1, "changed": 0, "ongoing": 0, "resolved": 0, "nothing": 0}
ALERT = {
    "labels": LABELS, "annotations": ANNOTATIONS, "startsAt": "2025-05-01T10:00:00Z", "endsAt": "2025-05-01T10:04:00Z",
    "generatorURL": "https://prometheus.example.com/graph?g0.expr=disk_full",
}  # fmt: skip
WEBHOOK = {
    "version": "4", "groupKey": "{}:{alertname=\"DiskFull\"}", "truncatedAlerts": 0, "status": "firing",
    "receiver": "tocsin", "groupLabels": {}, "commonLabels": LABELS, "commonAnnotations": ANNOTATIONS,
    "externalURL": "https://alertmanager.example.com",
    "alerts": [{**ALERT, "status": "firing", "endsAt": "0001-01-01T00:00:00Z", "fingerprint": "c9a16bd6b9ef6c6b"}],
}  # fmt: skip
OURS = {
    "dedup_key": "db1/disk", "status": "firing", "title": "disk_full", "message": "The disk of db1 is full",
    "severity": "critical", "url": "https://example.com/db1",
}  # fmt: skip
EVENT = {
    "routing_key": "8sZ1c0Qv7Tn4Jk2LwXy9Rb5Gd3Hf6MpA", "event_action": "trigger", "dedup_key": "db1/disk",
    "payload": {"summary": "The disk is full", "source": "db1.example.com", "severity": "critical"},
}  # fmt: skip
CHANGE = {"routing_key": EVENT["routing_key"], "payload": {"summary": "Version 7 was deployed", "source": "ci"}}
EVENT_TAKEN = {"status": "success", "message": "Event processed", "dedup_key": "db1/disk"}
CHANGE_TAKEN = {"status": "success", "message": "Change event processed"}
BODY = {"at": "2025-05-01T10:00:00.000Z", "kind": "refused", "body": "{}", "size": 2,
        "became": "dedup_key is missing: it says which alerts are the same"}
PREVIEWED = {
    "alerts": [{"dedup_key": "7", "status": "firing", "incident_type": "nightly", "message": "nightly",
                "severity": "warning", "url": None,
                "details": {"job": {"id": 7, "name": "nightly"}, "state": "failed"}}],
    "refused": [], "notes": [],
}  # fmt: skip

_SENT: dict[str, tuple[Named, Named]] = {
    "": ({"Ours": OURS, "An Alertmanager's": WEBHOOK}, {"Opened": TOOK}),
    "/api/v2/alerts": ({"Prometheus": [ALERT]}, {"Opened": TOOK}),
    "/v2/enqueue": ({"An event": EVENT}, {"Taken": EVENT_TAKEN}),
    "/v2/change/enqueue": ({"A change": CHANGE}, {"Taken": CHANGE_TAKEN}),
}

REQUESTS: dict[Operation, Named] = {
    ("POST", "/api/v1/sources"): {
        "Prometheus": {"source": {"type": "alertmanager", "name": "Our cluster",
                                  "settings": {"ignore_labels": ["replica"]}}},
        "Grafana, signed": {"source": {"type": "grafana", "signing_secret": "what-Grafana-signs-with"}},
        "Any JSON": {"source": MAPPED},
    },
    ("POST", "/api/v1/sources/preview"): {
        "A mapping": {"source": MAPPED, "body": '{"job": {"id": 7, "name": "nightly"}, "state": "failed"}'},
    },
    ("PATCH", "/api/v1/sources/{uuid}"): {"End what is not mentioned": {"source": {"stale_after": 86400}}},
    ("POST", "/api/v1/sources/{uuid}/integrations"): {"Attach": {"integration_id": "INT456"}},
    ("PATCH", "/api/v1/sources/{uuid}/integrations/{integration_id}"): {"Escalate": values.ESCALATION},
}  # fmt: skip

ANSWERS: dict[Operation, dict[int, Named]] = {
    ("GET", "/api/v1/sources"): {200: {"One page": {"data": [SOURCE], "meta": values.META}}},
    ("POST", "/api/v1/sources"): {201: {"Created": {**SOURCE, "alerts_ongoing": 0, "last_body_at": None}}},
    ("POST", "/api/v1/sources/preview"): {200: {"An alert": PREVIEWED}},
    ("GET", "/api/v1/sources/{uuid}"): {200: {"One": SOURCE}},
    ("PATCH", "/api/v1/sources/{uuid}"): {200: {"Changed": {**SOURCE, "stale_after": 86400}}},
    ("POST", "/api/v1/sources/{uuid}/rotate"): {200: {"Rotated": SOURCE}},
    ("GET", "/api/v1/sources/{uuid}/bodies"): {200: {"Newest first": {"data": [BODY]}}},
    ("GET", "/api/v1/sources/{uuid}/integrations"): {200: {"Attached": [values.WEBHOOK]}},
    ("POST", "/api/v1/sources/{uuid}/integrations"): {
        201: {"Attached": values.WEBHOOK}, 200: {"Attached before": values.WEBHOOK},
    },
    ("PATCH", "/api/v1/sources/{uuid}/integrations/{integration_id}"): {200: {"Changed": values.ATTACHED}},
    ("GET", "/api/v1/sources/{uuid}/notification_plan"): {
        200: {"Everybody": {"data": [values.PLANNED, values.NOT_PLANNED]}},
    },
}  # fmt: skip

for _path, (_requests, _answers) in _SENT.items():
    _status = 202 if "enqueue" in _path else 200
    for _start in ("/in/{key}", "/in", *([""] if _status == 202 else [])):
        for _method in ("POST", "PUT"):
            REQUESTS[_method, _start + _path] = _requests
            ANSWERS[_method, _start + _path] = {_status: _answers}
