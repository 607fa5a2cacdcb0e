"""Grafana's unified alerting, by its webhook.

https://grafana.com/docs/grafana/latest/alerting/configure-notifications/manage-contact-points/integrations/webhook-notifier/
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, ClassVar

from msgspec.structs import replace

from tocsin.domain.alerts import MAX_KEY
from tocsin.domain.sources.alertmanager import told
from tocsin.domain.sources.base import Left, Said, Settings, Snippet, SourceType, Unreadable, Wrong, mapping

SIGNATURE, TIMESTAMP = "x-grafana-alerting-signature", "x-grafana-alerting-timestamp"
"""Headers of a signed request; the second has no name of its own there, and this one in our instructions."""
MAX_AGE = 300
"""Seconds by which a signed time may differ from ours."""
BESIDE = ("values", "dashboardURL", "panelURL", "silenceURL", "imageURL")

CONTACT_POINT = """\
# Alerting, Contact points, Add contact point
Integration:  Webhook
URL:          {url}
HTTP Method:  POST
# Optional settings, HMAC Signature, where a secret is set here
Secret:            the same secret
Header:            X-Grafana-Alerting-Signature
Timestamp Header:  X-Grafana-Alerting-Timestamp
"""


class GrafanaSource(SourceType):
    type: ClassVar[str] = "grafana"
    label: ClassVar[str] = "Grafana"
    about: ClassVar[str] = "Takes alerts from Grafana's own alerting, by a contact point of type webhook."
    signed: ClassVar[bool] = True
    snippets: ClassVar[tuple[Snippet, ...]] = (
        Snippet("Grafana", "A contact point for your notification policies.", CONTACT_POINT),
    )

    def read(self, body: object, settings: Settings, now: datetime) -> Iterator[Said]:
        given = mapping(body, "The body")
        if not isinstance(given.get("alerts"), list):
            raise Unreadable("alerts must be a list, as Grafana's unified alerting sends it")
        return _read(given)


def _read(given: Mapping[str, Any]) -> Iterator[Said]:
    for number, each in enumerate(given["alerts"]):
        try:
            alert = mapping(each, "it")
            found = told(alert, frozenset(), **{name: alert[name] for name in BESIDE if alert.get(name)})
            own = alert.get("fingerprint")
            yield replace(found, dedup_key=own) if isinstance(own, str) and 0 < len(own) <= MAX_KEY else found
        except Unreadable as error:
            yield Wrong(f"alerts[{number}]: {error}")
    left = given.get("truncatedAlerts")
    if isinstance(left, int) and left > 0:
        yield Left(left)


def is_signed(body: bytes, secret: str, signature: str, timestamp: str | None, now: float) -> bool:
    """Whether a body was signed with that secret: HMAC-SHA256 in hexadecimal of the body, or of a Unix time, a colon
    and the body where a time was sent (grafana/alerting, http/hmac.go).
    """
    signed = body
    if timestamp is not None:
        if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) < 12):
            return False
        if abs(now - int(timestamp)) > MAX_AGE:
            return False
        signed = timestamp.encode() + b":" + body
    made = hmac.digest(secret.encode(), signed, "sha256").hex()
    return hmac.compare_digest(made.encode(), signature.strip().lower().encode())
