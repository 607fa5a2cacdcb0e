"""The audit log: who changed what and when."""

from __future__ import annotations

import json
from collections.abc import Mapping
from urllib.parse import urlencode
from uuid import UUID

from litestar import Response, get

from tocsin.domain import ids
from tocsin.domain.errors import Refused
from tocsin.domain.resources.base import kinds
from tocsin.integrations import base
from tocsin.storage import audit
from tocsin.storage.audit import Entry
from tocsin.web.render import page
from tocsin.web.session import Service, Viewer

PAGE = "/settings/audit"
ON_A_PAGE = 50
MAX_NAME_LENGTH = 320

PLACES = {
    ids.INTEGRATION: "/integrations", ids.INCIDENT: "/incidents",
    **{kind.prefix: kind.path for kind in kinds().values()},
}  # fmt: skip


@get(PAGE, include_in_schema=False)
async def show(viewer: Viewer, service: Service, who: str = "", before: str = "") -> Response[str]:
    who = who.replace("\0", "")[:MAX_NAME_LENGTH]
    async with service.pool.acquire() as tx:
        found = await audit.page(
            tx, viewer.project_id, limit=ON_A_PAGE + 1, before=_key(before), who=who or None
        )
        everybody = await audit.everybody(tx, viewer.project_id)
    shown = found[:ON_A_PAGE]
    older = ""
    if len(found) > ON_A_PAGE:
        older = f"{PAGE}?{urlencode({'who': who, 'before': shown[-1].id.hex})}"
    return page(
        "audit.html", viewer, title="Audit log", who=who, before=before, everybody=everybody, older=older,
        entries=[(each, _place(each), more(each)) for each in shown],
    )


def _key(text: str) -> UUID | None:
    try:
        return UUID(hex=text)
    except ValueError:
        return None


def _place(entry: Entry) -> str:
    """The page of what was changed, if it may still exist."""
    uuid = entry.details.get("uuid")
    if not isinstance(uuid, str) or entry.action.startswith("deleted"):
        return ""
    for prefix, place in PLACES.items():
        if ids.parse(prefix, uuid):
            return f"{place}/{uuid}"
    return ""


def more(entry: Entry) -> str:
    """The entry's other details in words: `fields: name, port; role: reader`."""
    message = [
        _alerts(value) if name == "alerts" and isinstance(value, dict) else f"{name.replace('_', ' ')}: {_words(value)}"
        for name, value in entry.details.items()
        if name != "uuid" and value not in (None, "", [], {})
    ]
    return "; ".join(message)[:500]


def _alerts(given: Mapping[str, object]) -> str:
    """A server's new alerts: `ram: over 90 % for 0 s; disk: off`."""
    return "; ".join(f"{kind}: {_alert(alert)}" for kind, alert in given.items())


def _alert(alert: object) -> str:
    if not isinstance(alert, dict):
        return "off"
    words = {"threshold": "over {} %", "for": "for {} s", "after": "after {} s"}
    return " ".join(words[name].format(_words(alert[name])) for name in words if name in alert) or "default"


def _words(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(_words, value))
    if isinstance(value, float):
        return f"{value:.15g}"
    return _word(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _word(value: str) -> str:
    """A value for people: types of integrations by their labels."""
    try:
        return base.of(value).label if value.startswith("Integrations::") else value
    except Refused:
        return value


routes = [show]
