"""Prometheus' alerts, by both ways: as Prometheus sends them to an Alertmanager, and as an Alertmanager tells of them.

https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml (POST /alerts) and
https://prometheus.io/docs/alerting/latest/configuration/#webhook_config (version 4).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, ClassVar

from tocsin.domain import alerts
from tocsin.domain.alerts import Alert
from tocsin.domain.errors import invalid_field
from tocsin.domain.sources.base import (
    Left,
    Said,
    Settings,
    Snippet,
    SourceType,
    Unreadable,
    Wrong,
    mapping,
    moment,
    texts,
)

RESOLVE_TIMEOUT = timedelta(minutes=5)
"""How long an alert without an end lasts after it was last sent, as there."""
VERSION = "4"
MAX_LABELS, MAX_NAME = 200, 255
MAX_IGNORED = 50

_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
"""Of a label or annotation (prometheus/common, model.LabelName)."""

PROMETHEUS = """\
# prometheus.yml: Tocsin in the place of an Alertmanager
alerting:
  alertmanagers:
    - scheme: {scheme}
      path_prefix: {path}
      static_configs:
        - targets: ["{host}"]
"""
WEBHOOK = """\
# alertmanager.yml
route:
  receiver: tocsin
  group_by: ["..."]   # each alert by itself: who is told of several at once is decided here
  group_wait: 0s
  group_interval: 1m
receivers:
  - name: tocsin
    webhook_configs:
      - url: {url}
        send_resolved: true
"""


class AlertmanagerSource(SourceType):
    type: ClassVar[str] = "alertmanager"
    label: ClassVar[str] = "Prometheus or Alertmanager"
    about: ClassVar[str] = "Takes alerts from Prometheus itself, in an Alertmanager's place, or from an Alertmanager."
    settings: ClassVar[tuple[str, ...]] = ("ignore_labels",)
    snippets: ClassVar[tuple[Snippet, ...]] = (
        Snippet("Prometheus", "It sends its alerts here, beside an Alertmanager or instead of one.", PROMETHEUS),
        Snippet("Alertmanager", "Alertmanager tells Tocsin of alerts; Tocsin keeps each apart.", WEBHOOK),
    )

    def checked(self, given: Settings) -> dict[str, Any]:
        known = super().checked(given)
        ignored = known.get("ignore_labels")
        if ignored is None:
            return {}
        fits = isinstance(ignored, list) and len(ignored) <= MAX_IGNORED
        if not fits or not all(isinstance(each, str) and _is_name(each) for each in ignored):
            wanted = f"must be a list of up to {MAX_IGNORED} names of labels, such as [\"replica\"]"
            raise invalid_field("settings.ignore_labels", wanted)
        return {"ignore_labels": sorted(set(ignored))} if ignored else {}

    def read(self, body: object, settings: Settings, now: datetime) -> Iterator[Said]:
        """Alertmanager's webhook."""
        given = mapping(body, "The body")
        if given.get("version") != VERSION:
            raise Unreadable(f'version must be "{VERSION}", as Alertmanager sends it')
        if not isinstance(given.get("alerts"), list):
            raise Unreadable("alerts must be a list")
        return read_webhook(given, frozenset(settings.get("ignore_labels", ())))

    def read_alerts(self, body: object, settings: Settings, now: datetime) -> Iterator[Said]:
        """What Prometheus sends. Raises `Unreadable`."""
        if not isinstance(body, list):
            raise Unreadable("The body must be a list of alerts")
        return _sent(body, frozenset(settings.get("ignore_labels", ())), now)


def read_webhook(given: Mapping[str, Any], ignored: frozenset[str]) -> Iterator[Said]:
    """Each alert of a notification of Alertmanager's kind, and how many were left out of it."""
    for number, each in enumerate(given["alerts"]):
        try:
            yield told(mapping(each, "it"), ignored)
        except Unreadable as error:
            yield Wrong(f"alerts[{number}]: {error}")
    left = given.get("truncatedAlerts")
    if isinstance(left, int) and left > 0:
        yield Left(left)


def told(given: Mapping[str, Any], ignored: frozenset[str], **more: Any) -> Alert:
    """One alert of such a notification. `more` is put beside labels and annotations. Raises `Unreadable`."""
    status = given.get("status")
    if status not in ("firing", "resolved"):
        raise Unreadable("status must be firing or resolved")
    labels = _labels(given)
    return _alert(
        labels, texts(given.get("annotations"), "annotations"), given.get("generatorURL"),
        alerts.fingerprint(labels, ignored), "firing" if status == "firing" else "resolved",
        moment(given.get("startsAt"), "startsAt"),
        moment(given.get("endsAt"), "endsAt") if status == "resolved" else None, more,
    )  # fmt: skip


def _sent(given: list[Any], ignored: frozenset[str], now: datetime) -> Iterator[Said]:
    for number, each in enumerate(given):
        try:
            alert = mapping(each, "it")
            labels = _labels(alert)
            starts, ends = moment(alert.get("startsAt"), "startsAt"), moment(alert.get("endsAt"), "endsAt")
            if starts and ends and ends < starts:
                raise Unreadable("start time must be before end time")
            over = ends is not None and ends <= now
            yield _alert(
                labels, texts(alert.get("annotations"), "annotations"), alert.get("generatorURL"),
                alerts.fingerprint(labels, ignored), "resolved" if over else "firing", starts,
                ends or now + RESOLVE_TIMEOUT, {},
            )  # fmt: skip
        except Unreadable as error:
            yield Wrong(f"[{number}]: {error}")


def _labels(alert: Mapping[str, Any]) -> dict[str, str]:
    labels = {name: value for name, value in texts(alert.get("labels"), "labels").items() if value}
    if not labels:
        raise Unreadable("at least one label pair required")
    if len(labels) > MAX_LABELS:
        raise Unreadable(f"it has more than {MAX_LABELS} labels")
    for name in labels:
        if not _is_name(name):
            raise Unreadable(f"invalid label name {name[:60]!r}")
    return labels


@lru_cache(maxsize=4096)
def _is_name(name: str) -> bool:
    return len(name) <= MAX_NAME and _NAME.fullmatch(name) is not None


def _alert(
    labels: dict[str, str], annotations: dict[str, str], generator: object, key: str, status: alerts.Status,
    starts_at: datetime | None, ends_at: datetime | None, more: Mapping[str, Any],
) -> Alert:  # fmt: skip
    name = labels.get("alertname", alerts.NAMELESS)
    if status == "resolved":
        return Alert(key, status, alerts.incident_type(name), "", ends_at=ends_at, starts_at=starts_at)
    others = " ".join([f"{each}={labels[each]}" for each in sorted(labels) if each not in ("alertname", "severity")])
    text = alerts.message(
        annotations.get("summary"), annotations.get("description") or annotations.get("message"),
        default=f"{name}: {others}" if others else name,
    )
    return Alert(
        key, status, alerts.incident_type(name), text, alerts.severity(labels.get("severity")),
        alerts.link(generator), alerts.fitted({"labels": labels, "annotations": annotations, **more}),
        starts_at, ends_at,
    )  # fmt: skip
