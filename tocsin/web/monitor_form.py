"""Converts a monitor's settings to form values and back. The rules are those of `actions.monitors`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from msgspec import UNSET, UnsetType

from tocsin.actions.monitors import MonitorFields
from tocsin.checks import base
from tocsin.domain import monitors as domain
from tocsin.domain.errors import Refused, invalid_field
from tocsin.domain.monitors import MonitorConfig
from tocsin.domain.places import HERE
from tocsin.web.places import called
from tocsin.web.session import Form

FRESH: Mapping[str, str] = {
    "interval": f"{domain.DEFAULT_INTERVAL:g}", "timeout": f"{domain.DEFAULT_TIMEOUT:g}",
    "confirmations": str(domain.DEFAULT_CONFIRMATIONS), "recoveries": str(domain.DEFAULT_RECOVERIES),
    "expected_status": "2xx", "check_type": "http",
}  # fmt: skip
TYPES: Mapping[str, str] = {
    "http": "Web address", "tcp": "Port (TCP)", "tls": "Certificate (TLS)", "ping": "Host (ping)", "dns": "Name (DNS)",
}  # fmt: skip
"""What people call the types; others by their name."""

Kind = Literal["text", "secret", "number", "lines", "list", "headers", "statuses", "choice"]


@dataclass(frozen=True, slots=True)
class Field:
    """How an option of checks is asked for. The types that know it are found in `checks`."""

    name: str
    label: str
    kind: Kind = "text"
    hint: str = ""
    choices: Sequence[tuple[str, str]] = ()

    @property
    def types(self) -> str:
        """The names of the types that know it."""
        return " ".join(each.check_type for each in base.types().values() if self.name in each.option_names)


YES, NO = ("", "Yes"), ("false", "No")
OPTIONS: Mapping[str, Field] = {each.name: each for each in (
    Field("expected_status", "Expected statuses", "statuses", "2xx, or several such as 200, 3xx."),
    Field("keyword", "Keyword that the response must contain", hint="Leave empty for none. It is no pattern."),
    Field("keyword_absent", "Keyword that it must not contain"),
    Field("json_path", "JSON path", hint="Of an answer in JSON: $.status, or $.checks[*].status."),
    Field("json_value", "What it must be", hint="Every value that the path selects. Empty: anything that is there."),
    Field("packets", "Packets", "number"),
    Field("max_loss", "Lost packets from which it is a warning, in percent", "number", "Empty: only if all are lost."),
    Field("expected", "Records", "list", "All that the answer must have, one a line, in any order. Empty: any."),
    Field("server_name", "Name of the server", hint="If its certificate is for another name than the address has."),
    Field("max_response_ms", "Slow from, in milliseconds", "number", "A good answer that takes longer is an incident."),
    Field("send", "Text to send", "lines", "Sent as soon as the connection is there."),
    Field("expect", "Text that must come back", hint="A banner such as ESMTP. It is no pattern."),
    Field("tls", "TLS", "choice", choices=(("", "No"), ("true", "Yes"))),
    Field("method", "Method", "choice", choices=(
        ("", "GET"), *((each, each) for each in ("HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")),
    )),
    Field("headers", "Headers", "headers", "One a line: X-Api-Key: value. Values are stored encrypted and not shown."),
    Field("body", "Body", "lines", "Sent as JSON if it is JSON, else as a form."),
    Field("username", "User name", hint="For HTTP Basic authentication."),
    Field("password", "Password", "secret"),
    Field("token", "Bearer token", "secret"),
    Field("follow_redirects", "Follow redirects", "choice", choices=(YES, NO)),
    Field("verify_tls", "Verify its certificate", "choice", choices=(YES, NO)),
    Field("tls_days", "Days before a certificate ends", "number",
          "A warning from then on, or from a third of its lifetime if that is later. 0 for none."),
    Field("domain_days", "Days before the domain's registration ends", "number",
          "A warning from then on. Its registry is asked once a day. Empty for none."),
    Field("ip_version", "Addresses", "choice", choices=(("", "IPv4 and IPv6"), ("4", "Only IPv4"), ("6", "Only IPv6"))),
)}  # fmt: skip
PLACES_SHOWN = "places"
"""The field that says that places could be chosen: no tick at all then means here."""
MAX_PLACE, MAX_PLACES = 60, 40
"""Characters of a place, and places, that are read: more than are accepted."""

ADVANCED = frozenset((
    "method", "headers", "body", "username", "password", "token", "follow_redirects", "verify_tls", "tls_days",
    "domain_days", "ip_version",
))  # fmt: skip
"""What is asked for further down."""


def types() -> list[tuple[str, str]]:
    """Choices of the type."""
    return [(name, TYPES.get(name, name.upper())) for name in sorted(base.types(), key=lambda name: name != "http")]


def opened(part: Literal["how", "sent"], errors: Mapping[str, str]) -> bool:
    """Whether a folded part of the form holds a mistake."""
    folded = errors.keys() - {"url", "name", "check_type", "locations"}
    return bool(folded & ADVANCED if part == "sent" else folded - ADVANCED)


def chosen(values: Mapping[str, str]) -> list[str]:
    """The places that are ticked, in order; here where none is."""
    named = values.getall("locations") if isinstance(values, Form) else values.get("locations", "").split(",")
    return [each[:MAX_PLACE] for each in dict.fromkeys(named) if each][:MAX_PLACES] or [HERE]


def places(values: Mapping[str, str], known: Sequence[str]) -> list[tuple[str, str]]:
    """Choices of places: those that are chosen, in their order, then here and the other `known` ones.

    One that is chosen and is no longer known says so.
    """
    taken = chosen(values)
    return [
        (each, called(each) if each == HERE or each in known else f"{called(each)} (no longer there)")
        for each in dict.fromkeys([*taken, HERE, *known])
    ]


def given(form: Mapping[str, str]) -> MonitorFields:
    """The settings as a caller of the API would send them. Raises `Refused` (422).

    The address decides the type of check if it has a scheme, else what was chosen; fields that the type does not have
    are left out, and options that the form does not ask for stay as they are.
    """
    url, chosen = form.get("url", "").strip(), form.get("check_type", "http")
    if not url:
        raise invalid_field("url", "is required")
    if not any(url.lower().startswith(f"{scheme}:") for kind in base.types().values() for scheme in kind.schemes):
        url = url if "://" in url else f"{'https' if chosen not in base.types() or chosen == 'http' else chosen}://{url}"
    kind = base.of(None, url)
    options: dict[str, Any] = {
        name: _parsed(field, form.get(name, "")) if name in kind.option_names else None
        for name, field in OPTIONS.items() if field.types
    }  # fmt: skip
    return MonitorFields(
        name=form.get("name", ""),
        url=url,
        check_type=None,
        interval=_number(form, "interval"),
        timeout=_number(form, "timeout"),
        confirmations=_whole(form, "confirmations"),
        recoveries=_whole(form, "recoveries"),
        locations=_locations(form),
        **options,
    )


def values(stored: MonitorConfig) -> dict[str, str]:
    """The form values of stored settings, secret ones masked."""
    target = stored.target
    shown = base.shown_options(target)
    return {
        "url": target.url,
        "check_type": target.check_type,
        "name": "" if stored.name == target.url else stored.name,
        "interval": f"{stored.interval:g}",
        "timeout": f"{target.timeout:g}",
        "confirmations": str(stored.confirmations),
        "recoveries": str(stored.recoveries),
        "locations": ",".join(stored.locations or ()),
    } | {name: _written(shown[name], field.kind) for name, field in OPTIONS.items() if name in shown}


def errors(refused: Refused) -> dict[str, str]:
    """Messages by field; reraises refusals that are not about values."""
    if refused.status != 422 or not refused.details:
        raise refused
    return {each.field: each.message for each in refused.details}


def _locations(form: Mapping[str, str]) -> list[str] | UnsetType | None:
    if PLACES_SHOWN not in form:
        return UNSET
    taken = chosen(form)
    return None if taken == [HERE] else taken


def _parsed(field: Field, text: str) -> Any:
    """The option's value; None for its default."""
    match field.kind:
        case "statuses":
            return _statuses(text)
        case "headers":
            return _headers(text)
        case "lines":
            return (text if field.name == "send" else text.replace("\r\n", "\n")) or None
        case "list":
            return [line.strip() for line in text.splitlines() if line.strip()] or None
        case "number":
            if text.strip() and not text.strip().lstrip("-").isdecimal():
                raise invalid_field(field.name, "must be a whole number")
            return int(text.strip()[:10]) if text.strip() else None
        case "choice":
            plain: Mapping[str, Any] = {"": None, "true": True, "false": False, "4": 4, "6": 6}
            if text not in dict(field.choices):
                raise invalid_field(field.name, "must be one of the choices")
            return plain.get(text, text)
    return text.strip() or None


def _written(value: Any, kind: Kind) -> str:
    """As the form shows it. Of choices that are on unless they are switched off, "" is on."""
    match value:
        case None | True:
            return "true" if value else ""
        case False:
            return "false"
        case dict():
            return "\n".join(f"{name}: {each}" for name, each in value.items())
        case list():
            return ("\n" if kind == "list" else ", ").join(map(str, value))
    return str(value)


def _headers(text: str) -> dict[str, str] | None:
    found: dict[str, str] = {}
    for line in text.splitlines():
        if not line.strip():
            continue
        name, colon, value = line.partition(":")
        if not colon:
            raise invalid_field("headers", "must be one a line, such as X-Api-Key: value")
        found[name.strip()] = value.strip()
    return found or None


def _number(form: Mapping[str, str], name: str) -> float:
    text = form.get(name, "").strip().replace(",", ".") or FRESH[name]
    try:
        return float(text)
    except ValueError:
        raise invalid_field(name, "must be a number") from None


def _whole(form: Mapping[str, str], name: str) -> int:
    number = _number(form, name)
    if not number.is_integer():
        raise invalid_field(name, "must be a whole number")
    return int(number)


def _statuses(text: str) -> Any:
    """`2xx`, or `200, 3xx` as a list; the type of check refuses anything that is not a status."""
    named = [each.strip() for each in text.split(",") if each.strip()]
    parts = [int(each) if each.isascii() and each.isdecimal() and len(each) < 9 else each for each in named]
    return None if not parts else parts[0] if len(parts) == 1 else parts
