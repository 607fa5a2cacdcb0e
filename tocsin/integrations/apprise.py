"""Apprise: a hundred services more (https://appriseit.com), each by the fields that Apprise describes.

Apprise runs in confined processes (`transports/apprise`); here is what may be given to it, and what its answer means.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import quote

from tocsin.domain.deliveries import (
    ATTEMPT_TIMEOUT,
    ONGOING_EVENTS,
    RESPONSE_LIMIT,
    Delivered,
    Failed,
    Interrupted,
    Outcome,
)
from tocsin.domain.errors import invalid_field
from tocsin.domain.incidents import Notification
from tocsin.integrations import webhook
from tocsin.integrations.base import MASK, NO_PERMIT, IntegrationType, Permit, Transports
from tocsin.integrations.email import words
from tocsin.transports.apprise import catalog
from tocsin.transports.apprise.allowed import OFFERED, REFUSED_ARGUMENTS, unavailable
from tocsin.transports.apprise.slots import Busy
from tocsin.transports.apprise.way_out import Refusal
from tocsin.transports.apprise.workers import Ended, Unavailable, Workers
from tocsin.transports.http import Answer

MAX_URL_LENGTH = 4096
MAX_VALUE_LENGTH = 2000
MAX_LENGTH = 8000
"""Characters of all values together."""
MAX_LIST = 50
LEAST_SECRET = 4
"""Characters of a secret that are looked for in what was answered."""
AGAIN = 1.0
"""Seconds until the next attempt where no worker was free."""

PRIVATE = "private"
"""Added to what was given by `consult`: which fields are secret, and that they are all there are."""

Values = dict[str, str]


class AppriseIntegration(IntegrationType):
    type: ClassVar[str] = "Integrations::AppriseIntegration"
    label: ClassVar[str] = "Apprise"
    about: ClassVar[str] = "Notifies through one of over 150 other services, such as Pushover, ntfy or Matrix."
    form_page: ClassVar[str] = "apprise"
    for_people: ClassVar[bool] = True
    secret_settings: ClassVar[frozenset[str]] = frozenset({"secret_fields"})
    internal_settings: ClassVar[frozenset[str]] = frozenset({"secret_fields"})
    host_setting: ClassVar[str] = "fields.host"

    async def consult(
        self, given: Mapping[str, Any], stored: Mapping[str, Any] | None, apprise: Workers
    ) -> Mapping[str, Any]:
        """A pasted `url` as `service` and `fields`, checked by the service's own rules, and which are secret."""
        if stored and not given.keys() & {"url", "service", "fields"}:
            return given
        if given.get("url") not in (None, ""):
            given = await _read(given, apprise)
            stored = None
        wanted = self.parse({name: value for name, value in given.items() if name != PRIVATE}, stored)
        values = _values(wanted)
        answer = await _ask(apprise, {"do": "check", "service": wanted["service"], "fields": values})
        if "problem" in answer:
            field = answer.get("field")
            raise invalid_field(
                f"settings.fields.{field}" if field else "settings.fields", _without(answer["problem"], values)
            )
        return {"service": wanted["service"], "fields": values, PRIVATE: answer["secret"]}

    def parse(self, given: Mapping[str, Any], stored: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Fields that are given are added to those that are stored, and null removes one.

        What is not known to be public is secret.
        """
        known = stored or {}
        service = _service(given.get("service", known.get("service")))
        if service != known.get("service"):
            known = {}
        values = _given_values(service, given, known)
        if PRIVATE in given:
            secret = frozenset(given[PRIVATE])
        else:
            values = {name: value for name, value in {**_values(known), **values}.items() if value is not None}
            secret = values.keys() - known.get("fields", {}).keys()
        found = {name: value for name, value in values.items() if value is not None}
        if not found:
            raise invalid_field("settings.fields", "must name the fields of the service, with their values")
        port = str(found.get("port", "1"))
        if not (port.isascii() and port.isdecimal() and 0 < int(port[:6]) <= 65_535):
            raise invalid_field("settings.fields.port", "must be a number from 1 to 65535")
        return {
            "service": service,
            "fields": {name: value for name, value in found.items() if name not in secret},
            "secret_fields": {name: value for name, value in found.items() if name in secret},
        }

    def default_name(self, settings: Mapping[str, Any]) -> str:
        host = settings["fields"].get("host")
        return f"Apprise {settings['service']}" + (f" at {host}" if host else "")

    def host(self, settings: Mapping[str, Any]) -> str | None:
        """Services whose address has a port are called at their host; in others, the place of the host holds a name."""
        return _values(settings).get("host") if "port" in OFFERED.get(settings["service"], ()) else None

    def public_settings(self, settings: Mapping[str, Any], *, reveal: bool) -> dict[str, Any]:
        hidden = settings["secret_fields"]
        shown = hidden if reveal else dict.fromkeys(hidden, MASK)
        return {"service": settings["service"], "fields": {**settings["fields"], **shown}}

    def payload(self, notification: Notification) -> str:
        title, body = text(notification)
        return f"{title}\n\n{body}"

    async def send(
        self, settings: Mapping[str, Any], notification: Notification, transports: Transports,
        permit: Permit = NO_PERMIT,
    ) -> Outcome:
        if transports.apprise is None:
            return Failed("Apprise does not run here")
        if problem := unavailable(settings["service"]):
            return Failed(f"{settings['service']} {problem}", "twice")
        values = _values(settings)
        title, body = text(notification)
        request = {
            "do": "send", "service": settings["service"], "fields": values, "title": title, "body": body,
            "kind": _kind(notification),
        }  # fmt: skip
        lane = hash((settings["service"], tuple(sorted(values.items()))))
        try:
            answered = await transports.apprise.ask(request, lane=lane, timeout=ATTEMPT_TIMEOUT - 0.1)
        except (Unavailable, Busy) as error:
            return Interrupted(f"Interrupted: {error or 'no worker for Apprise was free'}", AGAIN)
        except TimeoutError:
            return Failed(f"No answer within {ATTEMPT_TIMEOUT:g} seconds")
        except Ended as error:
            return Failed(str(error))
        return outcome(answered.value, answered.refusals, settings["secret_fields"])


def outcome(
    answer: Mapping[str, Any], refusals: Sequence[Refusal], secrets: Values, now: float | None = None
) -> Outcome:
    """What a worker's answer means; `now` is as for a webhook. Apprise's own words are part of the response."""
    if "error" in answer:
        return Failed(_without(answer["error"], secrets))
    noted = answer["noted"]
    said = "\n".join(answer["words"])
    refused = [each for each in noted if not 200 <= each.get("status", 0) < 300]
    last = (noted if answer["done"] else refused or noted)[-1:]
    status = last[0].get("status") if last else None
    body = last[0].get("text", "") if last else ""
    response = _without(f"{said}\n{body}" if said and body else said or body, secrets)[:RESPONSE_LIMIT]
    if answer["done"]:
        return Delivered(status, response)
    if any(each.blocked for each in refusals):
        return Failed(next(each.words for each in refusals if each.blocked), "never", response=response)
    if status is not None and not 200 <= status < 300:
        wait = last[0].get("retry_after")
        headers = {} if wait is None else {"retry-after": wait}
        return webhook.outcome(Answer(status, headers, response), time.time() if now is None else now)
    if refusals:
        return Failed(refusals[-1].words, response=response)
    if last and "error" in last[0]:
        return Failed(_without(last[0]["error"], secrets), response=response)
    first = _without(answer["words"][0], secrets) if answer["words"] else "The service did not accept it"
    return Failed(first, "twice", status, response)


def text(notification: Notification) -> tuple[str, str]:
    """The title and the body, in plain text."""
    said = words(notification)
    facts = "\n".join(f"{name}: {value}" for name, value in said.facts)
    parts = [*said.sentences, facts, said.link or ""]
    return said.headline, "\n\n".join(part for part in parts if part)


def _kind(notification: Notification) -> str:
    """Apprise's kind of message, for services that colour theirs."""
    if notification.event == "resolved":
        return "success"
    if notification.event in ONGOING_EVENTS:
        return {"critical": "failure", "warning": "warning"}.get(notification.severity, "info")
    return "info"


def _values(settings: Mapping[str, Any]) -> Values:
    return {**settings.get("fields", {}), **settings.get("secret_fields", {})}


def _service(value: object) -> str:
    field = "settings.service"
    if value is None or value == "":
        raise invalid_field(field, "is required, or a url")
    if not isinstance(value, str):
        raise invalid_field(field, "must be a string")
    if problem := unavailable(value):
        raise invalid_field(field, problem)
    return value


def _given_values(service: str, given: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, str | None]:
    field = "settings.fields"
    fields = given.get("fields", {} if known else None)
    if not isinstance(fields, dict) or (not fields and "fields" in given):
        raise invalid_field(field, "must be an object: the fields of the service, with their values")
    if len(fields) > MAX_LIST:
        raise invalid_field(field, f"must not be more than {MAX_LIST}")
    found: dict[str, str | None] = {}
    for name, value in fields.items():
        if name in REFUSED_ARGUMENTS:
            raise invalid_field(field, f"must not hold {name}, which is not offered for any service")
        if name not in OFFERED[service]:
            raise invalid_field(field, f"must not hold {name[:40]!r}, which {service} has no use for here")
        found[name] = _value(f"{field}.{name}", value, known.get("secret_fields", {}).get(name))
    if sum(len(value or "") for value in found.values()) > MAX_LENGTH:
        raise invalid_field(field, f"must not be longer than {MAX_LENGTH:,} characters")
    return found


def _value(field: str, value: object, stored: str | None) -> str | None:
    if value is None or value == "":
        return None
    if value == MASK:
        if stored is None:
            raise invalid_field(field, "is masked: send its value")
        return stored
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list) and len(value) <= MAX_LIST and all(isinstance(each, str) for each in value):
        value = ", ".join(value)
    if isinstance(value, int | float):
        value = str(value)
    if not isinstance(value, str):
        raise invalid_field(field, "must be a string, a number, true or false, or a list of strings")
    if len(value) > MAX_VALUE_LENGTH:
        raise invalid_field(field, f"is longer than {MAX_VALUE_LENGTH:,} characters")
    if not value.isprintable():
        raise invalid_field(field, "must not hold control characters")
    return value.strip() or None


async def _read(given: Mapping[str, Any], apprise: Workers) -> dict[str, Any]:
    """Service and fields of a pasted address."""
    url, field = given["url"], "settings.url"
    if not isinstance(url, str):
        raise invalid_field(field, "must be a string")
    url = url.strip()
    if len(url) > MAX_URL_LENGTH:
        raise invalid_field(field, f"is longer than {MAX_URL_LENGTH:,} characters")
    if "://" not in url or not url.isprintable() or any(each.isspace() for each in url) or url.count("://") > 1:
        raise invalid_field(field, "must be one address of Apprise, such as gotifys://example.com/token")
    if "service" in given or "fields" in given:
        raise invalid_field(field, "must stand alone, without service and fields")
    answer = await _ask(apprise, {"do": "read", "url": url})
    if "problem" in answer:
        raise invalid_field(field, answer["problem"])
    return {"service": answer["service"], "fields": answer["fields"]}


async def _ask(apprise: Workers, request: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a worker says of fields. Raises `Refused` (503) if none can be asked."""
    answer = await catalog.asked(apprise, request)
    if "error" in answer:
        field = "settings.url" if "url" in request else "settings.fields"
        raise invalid_field(field, "cannot be understood by this service")
    return answer


def _without(said: str, secrets: Values) -> str:
    """What was said, without the secrets in it, and without NUL."""
    for secret in sorted(secrets.values(), key=len, reverse=True):
        if len(secret) >= LEAST_SECRET:
            for form in {secret, quote(secret, safe=""), quote(secret)}:
                said = said.replace(form, "…")
    return said.replace("\x00", "")
