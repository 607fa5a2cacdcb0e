"""Converts an integration's settings to form values and back, as its type describes its fields."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from tocsin.actions import integrations as actions
from tocsin.domain.errors import Refused, invalid_field
from tocsin.domain.floods import MAX_SECONDS, MIN_SECONDS, USUAL, Flood
from tocsin.integrations.base import Field, IntegrationType, Preview
from tocsin.web.ready_made import ReadyMade
from tocsin.web.session import Form

GENERAL = "form"
"""The key of errors that concern the form as a whole."""
EXAMPLE_ADDRESS = "https://example.com/"


def given(kind: IntegrationType, form: Mapping[str, str], *, changing: bool = False) -> dict[str, Any]:
    """The settings as a caller of the API would send them. An empty secret is left out, so that it is kept, unless it
    is shown by its names; when `changing`, any other empty field is removed.
    """
    found: dict[str, Any] = {}
    for field in kind.fields:
        if field.kind == "members":
            found[field.name] = members(kind, form)
            continue
        text = form.get(field.name, "").replace("\r\n", "\n").strip()
        if text:
            found[field.name] = _value(field, text)
        elif field.required or (changing and field.name not in hidden(kind) and field.kind != "number"):
            found[field.name] = "" if field.required else None
    return found


def values(kind: IntegrationType, settings: Mapping[str, Any]) -> dict[str, str]:
    """The form values of stored settings, without secrets; of pairs, whose values are secrets, the names."""
    shown = kind.public_settings(settings, reveal=False)
    return {
        field.name: _text(field, shown[field.name])
        for field in kind.fields
        if field.name not in hidden(kind) and shown.get(field.name) is not None
    }


def filled_in(kind: IntegrationType, service: ReadyMade) -> dict[str, str]:
    """The form values of a ready-made webhook: nothing in it is a secret yet."""
    settings = {"webhook_url": service.webhook_url, **service.settings}
    return {field.name: _text(field, settings[field.name]) for field in kind.fields if field.name in settings}


def unfolded(kind: IntegrationType, values: Mapping[str, str], errors: Mapping[str, str]) -> bool:
    """Whether the fields that are folded by default have something to show."""
    return any(
        each.name in errors or values.get(each.name, "").strip() not in ("", *(key for key, _ in each.options[:1]))
        for each in kind.fields
        if each.folded
    )


def hidden(kind: IntegrationType) -> set[str]:
    """The fields whose values are never in a page."""
    return {each.name for each in kind.fields if each.name in kind.secret_settings and each.kind != "pairs"}


def previews(
    kind: IntegrationType, form: Mapping[str, str], public_url: str, stored: Mapping[str, Any] | None = None
) -> list[Preview]:
    """What the settings in a form would send; with `stored` ones, it is a form that changes them. An address that is
    still missing is made up.
    """
    settings = given(kind, form, changing=stored is not None)
    if kind.host_setting and not settings.get(kind.host_setting):
        settings[kind.host_setting] = EXAMPLE_ADDRESS
    return actions.previews(kind.type, settings, public_url, stored)


def members(kind: IntegrationType, values: Mapping[str, str]) -> list[str]:
    """The integrations that are chosen in a form, or stored, in their order."""
    for field in kind.fields:
        if field.kind == "members":
            if isinstance(values, Form):
                return [each for each in values.getall(field.name) if each]
            return [each for each in values.get(field.name, "").split(", ") if each]
    return []


def errors(kind: IntegrationType, refused: Refused) -> dict[str, str]:
    """Messages by field; one without a field goes to the first field. Reraises refusals that are not about values.

    A place inside a field (`settings.body.text`) is part of the message.
    """
    if refused.status not in (422, 429, 503):
        raise refused
    found: dict[str, str] = {}
    for each in refused.details:
        place = each.field.removeprefix("settings.")
        name = next((field.name for field in kind.fields if _is_in(place, field.name)), place)
        inner = place.removeprefix(name).removeprefix(".")
        found[name] = f"{inner}: {each.message}" if inner else each.message
    return found or {(kind.fields[0].name if kind.fields else GENERAL): refused.message}


def given_flood(form: Mapping[str, str]) -> dict[str, Any] | None:
    """Flood control as a caller of the API would send it; the form has minutes. None without a tick."""
    if not form.get("flood"):
        return None
    return {"incidents": _number(form, "flood.incidents"), "seconds": _number(form, "flood.minutes", 60)}


def flood_values(flood: Flood | None) -> dict[str, str]:
    """The form values of stored flood control."""
    shown = flood or USUAL
    return {
        "flood": "on" if flood else "", "flood.incidents": str(shown.incidents),
        "flood.minutes": f"{shown.seconds / 60:g}",
    }  # fmt: skip


def flood_errors(refused: Refused) -> dict[str, str]:
    """Messages by the form's fields; reraises refusals that are not about values."""
    if refused.status != 422 or not refused.details:
        raise refused
    in_minutes = f"must be minutes from {MIN_SECONDS / 60:.2g} to {MAX_SECONDS // 60}"
    return {
        "flood.minutes" if each.field == "flood.seconds" else each.field:
        in_minutes if each.field == "flood.seconds" else each.message
        for each in refused.details
    }


def _number(form: Mapping[str, str], name: str, unit: int = 1) -> Any:
    """The number, in a smaller unit; what is none is handed on, to be refused with a message."""
    text = form.get(name, "").strip().replace(",", ".")
    try:
        number = float(text) * unit if len(text) < 10 else math.nan
    except ValueError:
        return text
    return int(number) if number.is_integer() else text


def _is_in(place: str, name: str) -> bool:
    return place == name or place.startswith((f"{name}.", f"{name}["))


def _value(field: Field, text: str) -> Any:
    if field.kind == "number":
        return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else text
    if field.kind == "list":
        return [each.strip() for each in text.split(",") if each.strip()]
    if field.kind == "json":
        return _json(field, text)
    if field.kind == "pairs":
        return _pairs(field, text)
    return f"{text}\n" if field.kind == "lines" else text


def _text(field: Field, value: Any) -> str:
    if field.kind in ("list", "members"):
        return ", ".join(value)
    if field.kind == "json":
        return msgspec.json.format(msgspec.json.encode(value)).decode()
    if field.kind == "pairs":
        return "\n".join(f"{name}: {inner}" for name, inner in value.items())
    return str(value)


def _json(field: Field, text: str) -> Any:
    try:
        value = msgspec.json.decode(text)
        msgspec.json.encode(value)
    except (msgspec.DecodeError, UnicodeError, OverflowError, RecursionError) as error:
        raise invalid_field(f"settings.{field.name}", f"is no JSON: {str(error)[:200]}") from None
    return value


def _pairs(field: Field, text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in filter(str.strip, text.split("\n")):
        name, colon, value = line.partition(":")
        if not colon or name.strip() in found:
            what = "is there twice" if colon else "has no colon: write Name: value"
            raise invalid_field(f"settings.{field.name}", f"has a line that {what}")
        found[name.strip()] = value.strip()
    return found
