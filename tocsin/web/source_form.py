"""Converts a source's settings to form values and back. The rules are those of `actions.sources`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import UNSET

from tocsin.actions.sources import SourceFields
from tocsin.domain.errors import Refused, invalid_field
from tocsin.domain.sources.base import MASK, SourceType, types
from tocsin.storage.monitoring.sources import SourceConfig

MAX_FORM_LINES = 20


def new(form: Mapping[str, str]) -> SourceFields:
    """A new source, as a caller of the API would send it."""
    return SourceFields(name=form.get("name", ""), type=form.get("type", ""))


def given(form: Mapping[str, str], before: SourceConfig) -> SourceFields:
    """A changed one. Raises `Refused` (422)."""
    kind = types()[before.type]
    return SourceFields(
        name=form.get("name", ""),
        settings=_settings(form, kind),
        signing_secret=form.get("signing_secret", "").strip() or None if kind.signed else UNSET,
        stale_after=_seconds(form.get("stale_after", "")),
    )


def values(stored: SourceConfig) -> dict[str, str]:
    """The form values of stored settings."""
    mapping = stored.settings.get("map", {})
    return {
        "name": stored.name,
        "ignore_labels": ", ".join(stored.settings.get("ignore_labels", ())),
        "map": "\n".join(f"{name}: {path}" for name, path in mapping.items()),
        "signing_secret": "" if stored.signing_secret is None else MASK,
        "stale_after": "" if stored.stale_after is None else str(stored.stale_after),
    }


def errors(refused: Refused) -> dict[str, str]:
    """Messages by field; reraises refusals that are not about values."""
    if refused.status != 422 or not refused.details:
        raise refused
    found: dict[str, str] = {}
    for each in refused.details:
        name, _, part = each.field.removeprefix("settings.").partition(".")
        found.setdefault(name, f"{part} {each.message}" if part else each.message)
    return found


def mapped(text: str) -> dict[str, str]:
    """A mapping as it is typed: a field, a colon and a path on each line. Raises `Refused` (422)."""
    found: dict[str, str] = {}
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) > MAX_FORM_LINES:
        raise invalid_field("settings.map", f"may have up to {MAX_FORM_LINES} lines")
    for line in lines:
        name, colon, path = line.partition(":")
        if not colon:
            raise invalid_field("settings.map", f"has a line without a colon: {line.strip()[:60]}")
        found[name.strip()] = path.strip()
    return found


def _settings(form: Mapping[str, str], kind: SourceType) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if "ignore_labels" in kind.settings:
        found["ignore_labels"] = [each.strip() for each in form.get("ignore_labels", "").split(",") if each.strip()]
    if "map" in kind.settings:
        found["map"] = mapped(form.get("map", ""))
    return found


def _seconds(text: str) -> int | None:
    typed = text.strip()
    if not typed:
        return None
    if not (typed.isascii() and typed.isdecimal() and len(typed) < 9):
        raise invalid_field("stale_after", "must be a whole number of seconds, or empty")
    return int(typed)
