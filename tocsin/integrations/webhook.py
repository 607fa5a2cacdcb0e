"""Webhook: seven fields of JSON, or whatever its receiver wants, signed as Standard Webhooks says
(https://www.standardwebhooks.com).
"""

from __future__ import annotations

import base64
import binascii
import hmac
import os
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar

import msgspec

from tocsin import __version__
from tocsin.domain import urls
from tocsin.domain.deliveries import Delivered, Failed, Outcome, Suppressed
from tocsin.domain.errors import Refused, invalid_field
from tocsin.domain.incidents import Notification
from tocsin.domain.templates.language import DETAILS
from tocsin.domain.templates.names import samples, values
from tocsin.domain.templates.request import (
    JSON,
    METHODS,
    SHAPING,
    Request,
    checked_settings,
    has_templates,
    is_shaped,
    origin,
    template,
)
from tocsin.integrations.base import MASK, NO_PERMIT, Field, IntegrationType, Permit, Preview, Transports
from tocsin.transports.http import Answer, Unreachable, retry_after

MAX_URL_LENGTH = 2048
ROTATION_SECONDS = 86_400
"""How long deliveries also carry the signature of the previous secret."""

SECRET_BYTES = 24
GUARDED = ("headers", "secrets")
"""Settings whose values are secrets, each by its name."""
PASSING = frozenset({408, 409, 425, 429})
"""Client errors that say "not now" rather than "not this"."""

USER_AGENT = f"Tocsin/{__version__}"


class Payload(msgspec.Struct):
    """The JSON that a receiver gets: the specification's fields, in its order."""

    resource_name: str
    resource_url: str
    resource_type: str
    incident_type: str
    incident_status: str
    incident_duration: int | None
    incident_message: str


class WebhookIntegration(IntegrationType):
    type: ClassVar[str] = "Integrations::WebhookIntegration"
    label: ClassVar[str] = "webhook"
    about: ClassVar[str] = "Posts signed JSON to an address of yours when an incident opens and when it is resolved."
    fields: ClassVar[tuple[Field, ...]] = (
        Field("webhook_url", "Address", "url", placeholder="https://example.com/hook"),
        Field("method", "Method", "choice", required=False, options=tuple(zip(METHODS, METHODS, strict=True)),
              folded=True),
        Field(
            "headers", "Headers", "pairs", "One a line, encrypted and shown masked. Values may have templates.",
            "Authorization: Bearer …", required=False, folded=True,
        ),
        Field(
            "secrets", "Secrets", "pairs",
            "One a line, encrypted and shown masked. In templates, key is {{ secrets.key }}.",
            "key: …", required=False, folded=True,
        ),
        Field(
            "body", "JSON body", "json", "Any text in it may be a template. If empty, the usual seven fields are sent.",
            '{"text": "{{ title }}: {{ message }}"}', required=False, folded=True,
        ),
        Field(
            "text", "Text body", "template", "For receivers that want no JSON; a template.", required=False, folded=True
        ),
        Field(
            "content_type", "Content type", hint="Only if it is neither application/json nor text/plain.",
            required=False, folded=True,
        ),
    )  # fmt: skip
    secret_settings: ClassVar[frozenset[str]] = frozenset({"signing_secret", "retired_secret", *GUARDED})
    internal_settings: ClassVar[frozenset[str]] = frozenset({"signing_secret", "retired_secret", "retired_at"})
    host_setting: ClassVar[str] = "webhook_url"
    signing_setting: ClassVar[str | None] = "signing_secret"

    def parse(self, given: Mapping[str, Any], stored: Mapping[str, Any] | None = None) -> dict[str, Any]:
        stored = stored or {}
        own = {name: value for name, value in stored.items() if name in self.internal_settings}
        url = _checked_url(given.get("webhook_url", stored.get("webhook_url")))
        wanted = {name: given.get(name, stored.get(name)) for name in SHAPING}
        for name in GUARDED:
            wanted[name] = _unmasked(name, given, stored, moved=bool(stored) and _moved(stored["webhook_url"], url))
        settings = {"webhook_url": url, **checked_settings(wanted), **(own or {"signing_secret": new_secret()})}
        if is_shaped(settings):
            made = template(settings)
            for sample in samples(datetime.now(UTC), "https://example.com"):
                _check_rendered(made.render(values(sample, "https://example.com", settings.get("secrets", {}))))
        return settings

    def default_name(self, settings: Mapping[str, Any]) -> str:
        return str(settings["webhook_url"])

    def hears_acknowledgements(self, settings: Mapping[str, Any]) -> bool:
        """Only where its templates speak of it: the usual seven fields cannot say it."""
        return _says(settings, "acknowledged", ("webhook_url", "body", "text"))

    def wants_details(self, settings: Mapping[str, Any]) -> bool:
        return _says(settings, DETAILS, ("webhook_url", *SHAPING))

    def host(self, settings: Mapping[str, Any]) -> str | None:
        return urls.read(_constant(settings["webhook_url"])).host

    def public_settings(self, settings: Mapping[str, Any], *, reveal: bool) -> dict[str, Any]:
        shown = super().public_settings(settings, reveal=reveal)
        return shown | {name: dict.fromkeys(settings[name], MASK) for name in GUARDED if name in shown and not reveal}

    def rotate_secret(self, settings: Mapping[str, Any], now: float) -> dict[str, Any]:
        return {
            **settings,
            "retired_secret": settings["signing_secret"],
            "retired_at": now,
            "signing_secret": new_secret(),
        }

    def payload(self, notification: Notification) -> str:
        return msgspec.json.format(body(notification)).decode() if notification.event != "notice" else ""

    def preview(
        self, settings: Mapping[str, Any], notification: Notification, public_url: str, *, reveal: bool = False
    ) -> Preview:
        masked = dict.fromkeys(settings.get("secrets", {}), MASK)
        made = template(settings).render(values(notification, public_url, masked))
        content = body(notification) if made.body is None else made.body
        text = msgspec.json.format(content).decode() if "json" in made.content_type else content.decode()
        headers = {name: _in_utf8(value) if reveal else MASK for name, value in made.headers.items()}
        if made.method == "GET":
            return Preview(notification.event, "", made.method, made.url, headers)
        return Preview(
            notification.event, text, made.method, made.url, {"Content-Type": made.content_type, **headers}
        )

    async def send(
        self, settings: Mapping[str, Any], notification: Notification, transports: Transports,
        permit: Permit = NO_PERMIT,
    ) -> Outcome:
        if notification.event == "notice":
            return Suppressed("notices are for people")
        try:
            method, url, payload, sent = request(settings, notification, transports.public_url)
        except Refused as refused:  # saved by a version that knew more
            return Failed(f"Its templates cannot be used: {refused.message}", retry="twice")
        try:
            answer = await transports.http.request(method, url, payload, sent)
        except Unreachable as error:
            return Failed(str(error), retry="never" if error.refused else "scheduled")
        return outcome(answer)


def request(
    settings: Mapping[str, Any], notification: Notification, public_url: str
) -> tuple[str, str, bytes, dict[str, str]]:
    """Method, URL, payload and headers for one notification. Raises `Refused` for templates that cannot be used."""
    if not is_shaped(settings):
        payload = body(notification)
        return "POST", settings["webhook_url"], payload, headers(settings, notification, payload)
    made = template(settings).render(values(notification, public_url, settings.get("secrets", {})))
    payload = body(notification) if made.body is None else made.body
    if made.method == "GET":
        payload = b""
    sent = headers(settings, notification, payload, content_type=made.content_type) | made.headers
    if made.method == "GET":
        del sent["Content-Type"]
    return made.method, made.url, payload, sent


def body(notification: Notification) -> bytes:
    """The payload of one notification."""
    return msgspec.json.encode(
        Payload(
            resource_name=notification.resource_name,
            resource_url=notification.resource_url,
            resource_type=notification.resource_type,
            incident_type=notification.incident_type,
            incident_status=notification.status,
            incident_duration=notification.duration,
            incident_message=notification.message,
        )
    )


def headers(
    settings: Mapping[str, Any], notification: Notification, payload: bytes, now: float | None = None,
    content_type: str = JSON,
) -> dict[str, str]:
    """The headers for `payload`: who sends, which delivery and incident, and one signature for each secret in force.

    `now` is Unix time, by default the clock's: receivers reject old signatures, so each attempt is signed anew.
    """
    now = time.time() if now is None else now
    secrets = [settings["signing_secret"]]
    if "retired_secret" in settings and now < settings["retired_at"] + ROTATION_SECONDS:
        secrets.append(settings["retired_secret"])
    moment = int(now)
    signed = f"{notification.delivery_id}.{moment}.".encode() + payload
    made = {
        "User-Agent": USER_AGENT,
        "Content-Type": content_type,
        "webhook-id": notification.delivery_id,
        "webhook-timestamp": str(moment),
        "webhook-signature": " ".join([_signature(_key(each), signed) for each in secrets]),
        "Tocsin-Severity": notification.severity,
    }
    if notification.incident_id:
        made["Tocsin-Incident"] = notification.incident_id
    return made


def outcome(answer: Answer, now: float | None = None) -> Outcome:
    """The outcome for a destination's response. `now` is Unix time, for a `Retry-After` that is a date."""
    status, text = answer.status, answer.text
    if 200 <= status < 300:
        return Delivered(status, text)
    if 300 <= status < 400:
        return Failed(f"Answered {status}: redirects are not followed", "twice", status, text)
    if status == 410:
        return Failed("Answered 410: the destination is gone for good", "disable", status, text)
    if 400 <= status < 500 and status not in PASSING:
        return Failed(f"Answered {status}", "twice", status, text)
    wait = retry_after(answer.headers.get("retry-after"), time.time() if now is None else now)
    return Failed(f"Answered {status}", "scheduled", status, text, wait)


def _says(settings: Mapping[str, Any], word: str, names: Iterable[str]) -> bool:
    """Whether a template in one of these settings has that word."""
    return is_shaped(settings) and word.encode() in msgspec.json.encode([settings.get(name) for name in names])


def new_secret() -> str:
    """A signing secret as Standard Webhooks writes it: `whsec_` and 24 random bytes in base64."""
    return "whsec_" + base64.b64encode(os.urandom(SECRET_BYTES)).decode()


def _signature(key: bytes, signed: bytes) -> str:
    """Standard Webhooks, "Signature scheme": HMAC-SHA256 of identifier, time and body, with dots between them."""
    return "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()


def _key(secret: str) -> bytes:
    """Decoded each time, which takes less than half a microsecond: so no secret is cached."""
    return binascii.a2b_base64(secret.removeprefix("whsec_"))


def _checked_url(value: object) -> str:
    field = "settings.webhook_url"
    if value is None or value == "":
        raise invalid_field(field, "is required")
    if not isinstance(value, str):
        raise invalid_field(field, "must be a string")
    if len(value) > MAX_URL_LENGTH:
        raise invalid_field(field, f"is longer than {MAX_URL_LENGTH} characters")
    try:
        url = urls.read(_constant(value))
    except ValueError as error:
        raise invalid_field(field, f"must be an address such as https://example.com/hook: {error}") from None
    if url.scheme not in urls.PORTS:
        raise invalid_field(field, "must be an address that starts with https:// or http://")
    if url.has_login:
        raise invalid_field(field, "must not hold a user name or password, because it is shown with the URL")
    return value


def _constant(url: str) -> str:
    """A URL, or as much of it as no template can change."""
    return origin(url) if has_templates(url) else url


def _moved(before: str, after: str) -> bool:
    """Whether requests go to another scheme, host or port than before."""
    old, new = (urls.read(_constant(each)) for each in (before, after))
    return (old.scheme, old.authority) != (new.scheme, new.authority)


def _unmasked(name: str, given: Mapping[str, Any], stored: Mapping[str, Any], *, moved: bool) -> Any:
    """Guarded values as they are to be stored: those that came back masked are the stored ones. Raises `Refused`."""
    known, wanted = stored.get(name) or {}, given.get(name, stored.get(name))
    if not isinstance(wanted, dict):
        return wanted
    kept = [each for each, value in wanted.items() if name not in given or value == MASK]
    for each in kept:
        if each not in known:
            raise invalid_field(f"settings.{name}.{each}"[:200], "is masked, and nothing is stored in its place")
        if moved:
            raise invalid_field(f"settings.{name}", "must be given again in clear: they were for another address")
    return {each: known[each] if each in kept else value for each, value in wanted.items()}


def _in_utf8(value: str) -> str:
    """What a header's bytes say: text outside ASCII is sent as UTF-8."""
    return value.encode("latin-1").decode(errors="replace")


def _check_rendered(made: Request) -> None:
    try:
        urls.read(made.url)
    except ValueError as error:
        raise invalid_field("settings.webhook_url", f"becomes an address that cannot be used: {error}") from None
