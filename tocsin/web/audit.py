"""Who changed what and when, through the pages and through the API."""

from __future__ import annotations

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
LONGEST_NAME = 320

PLACES = {
    ids.INTEGRATION: "/integrations", ids.INCIDENT: "/incidents",
    **{kind.prefix: kind.path for kind in kinds().values()},
}  # fmt: skip


@get(PAGE, include_in_schema=False)
async def show(viewer: Viewer, service: Service, who: str = "", before: str = "") -> Response[str]:
    who = who.replace("\0", "")[:LONGEST_NAME]
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
        "audit.html", viewer, title="Record of changes", who=who, before=before, everybody=everybody, older=older,
        entries=[(each, _place(each), _more(each)) for each in shown],
    )


def _key(text: str) -> UUID | None:
    try:
        return UUID(hex=text)
    except ValueError:
        return None


def _place(entry: Entry) -> str:
    """The page of what was changed, where there may still be one."""
    uuid = entry.details.get("uuid")
    if not isinstance(uuid, str) or entry.action.startswith("deleted"):
        return ""
    for prefix, place in PLACES.items():
        if ids.parse(prefix, uuid):
            return f"{place}/{uuid}"
    return ""


def _more(entry: Entry) -> str:
    """The rest of what is known, in words: `fields: name, port; role: reader`."""
    said = [
        f"{name.replace('_', ' ')}: {', '.join(map(_word, value)) if isinstance(value, list) else _word(value)}"
        for name, value in entry.details.items()
        if name != "uuid" and value not in (None, "", [])
    ]
    return "; ".join(said)[:500]


def _word(value: object) -> str:
    """A value as people call it: types of integrations by their labels."""
    try:
        return base.of(str(value)).label if str(value).startswith("Integrations::") else str(value)
    except Refused:
        return str(value)


routes = [show]
