"""Converts an integration's settings to form values and back, as its type describes its fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tocsin.domain.errors import Refused
from tocsin.integrations.base import Field, IntegrationType

GENERAL = "form"
"""The key of errors that concern the form as a whole."""


def given(kind: IntegrationType, form: Mapping[str, str], *, changing: bool = False) -> dict[str, Any]:
    """The settings as a caller of the API would send them. An empty secret is left out, so that it is kept; when
    `changing`, any other empty field is removed.
    """
    found: dict[str, Any] = {}
    for field in kind.fields:
        text = form.get(field.name, "").replace("\r\n", "\n").strip()
        if text:
            found[field.name] = _value(field, text)
        elif field.required or (changing and field.name not in kind.secret_settings and field.kind != "number"):
            found[field.name] = "" if field.required else None
    return found


def values(kind: IntegrationType, settings: Mapping[str, Any]) -> dict[str, str]:
    """The form values of stored settings, without secrets."""
    return {
        field.name: ", ".join(settings[field.name]) if field.kind == "list" else str(settings[field.name])
        for field in kind.fields
        if field.name not in kind.secret_settings and settings.get(field.name) is not None
    }


def errors(kind: IntegrationType, refused: Refused) -> dict[str, str]:
    """Messages by field; one without a field goes to the first field. Reraises refusals that are not about values."""
    if refused.status not in (422, 429, 503):
        raise refused
    found = {each.field.removeprefix("settings."): each.message for each in refused.details}
    return found or {(kind.fields[0].name if kind.fields else GENERAL): refused.message}


def _value(field: Field, text: str) -> Any:
    if field.kind == "number":
        return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else text
    if field.kind == "list":
        return [each.strip() for each in text.split(",") if each.strip()]
    return f"{text}\n" if field.kind == "lines" else text
