"""Converts a monitor's settings to form values and back. The rules are those of `actions.monitors`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tocsin.actions.monitors import MonitorFields
from tocsin.checks import base
from tocsin.domain import monitors as domain
from tocsin.domain.errors import Refused, invalid_field
from tocsin.domain.monitors import MonitorConfig

FRESH: Mapping[str, str] = {
    "interval": f"{domain.DEFAULT_INTERVAL:g}", "timeout": f"{domain.DEFAULT_TIMEOUT:g}",
    "confirmations": str(domain.DEFAULT_CONFIRMATIONS), "recoveries": str(domain.DEFAULT_RECOVERIES),
    "expected_status": "2xx",
}  # fmt: skip


def given(form: Mapping[str, str]) -> MonitorFields:
    """The settings as a caller of the API would send them. Raises `Refused` (422).

    The address decides the type of check; fields that the type does not have are left out.
    """
    url = form.get("url", "").strip()
    if not url:
        raise invalid_field("url", "is required")
    if "://" not in url and not url.lower().startswith("dns:"):
        url = f"https://{url}"
    web = base.of(None, url).check_type == "http"
    options: dict[str, Any] = {
        "expected_status": _statuses(form.get("expected_status", "")) if web else None,
        "keyword": form.get("keyword", "").strip() or None if web else None,
    }
    return MonitorFields(
        name=form.get("name", ""),
        url=url,
        check_type=None,
        interval=_number(form, "interval"),
        timeout=_number(form, "timeout"),
        confirmations=_whole(form, "confirmations"),
        recoveries=_whole(form, "recoveries"),
        **options,
    )


def values(stored: MonitorConfig) -> dict[str, str]:
    """The form values of stored settings."""
    target = stored.target
    expected = target.options.get("expected_status")
    listed = expected if isinstance(expected, list) else [] if expected is None else [expected]
    return {
        "url": target.url,
        "name": "" if stored.name == target.url else stored.name,
        "interval": f"{stored.interval:g}",
        "timeout": f"{target.timeout:g}",
        "confirmations": str(stored.confirmations),
        "recoveries": str(stored.recoveries),
        "expected_status": ", ".join(str(each) for each in listed) or "2xx",
        "keyword": target.options.get("keyword", ""),
    }


def errors(refused: Refused) -> dict[str, str]:
    """Messages by field; reraises refusals that are not about values."""
    if refused.status != 422 or not refused.details:
        raise refused
    return {each.field: each.message for each in refused.details}


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
