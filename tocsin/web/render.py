"""Renders templates to responses, and refusals to pages."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote
from uuid import UUID

from litestar import Response
from litestar.datastructures import Cookie
from markupsafe import Markup, escape

from tocsin.actions.base import READERS_ONLY_READ
from tocsin.domain import ids
from tocsin.domain.errors import Refused
from tocsin.domain.incidents import DRILL, WARNINGS
from tocsin.web import messages
from tocsin.web.session import FLASH, PROJECT_NEEDED, SIGN_IN_NEEDED, AnyRequest, Person, Viewer, redirect

if TYPE_CHECKING:
    import jinja2

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "same-origin",  # with less, browsers send `Origin: null` with our own forms
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


def page(
    template: str, viewer: Viewer | Person | None, *, title: str, status_code: int = 200, **context: Any
) -> Response[str]:
    """A page from the template, which extends `base.html`. Without a viewer there is no navigation and no script.

    A pending flash message is shown once.
    """
    full = viewer if isinstance(viewer, Viewer) else None
    flash_message = full.flash_message if full else None
    text = _environment().get_template(template).render(
        viewer=full, person=viewer, title=title, flash_message=flash_message, navigation=messages.NAVIGATION,
        csrf=lambda: _csrf(viewer), **context,
    )
    cookies = [Cookie(key=FLASH, value="", max_age=0, path="/", httponly=True, samesite="lax")] if flash_message else []
    headers = {**HEADERS, "Vary": "Cookie"}
    return Response(text, status_code=status_code, media_type="text/html", headers=headers, cookies=cookies)


def message(
    title: str, *paragraphs: str, viewer: Viewer | None = None, form: str = "", token: str = "", on: str = "",
    status: int = 200,
) -> Response[str]:
    """A page with only a message, and a button that goes `on` to an address, or a `form` of the template."""
    return page(
        "message.html", viewer, title=title, status_code=status, paragraphs=paragraphs, form=form, token=token, on=on
    )


def broken(form: str = "") -> Response[str]:
    """The page for a link from an email that is not ours or was not copied completely."""
    return message(
        messages.LINK_BROKEN, messages.COPY_WHOLE + (f" {messages.NEW_ONE}" if form else ""), form=form, status=400
    )


def refusal(request: AnyRequest, refused: Refused) -> Response[str]:
    """A refusal as a page, with a way to continue. Anybody who must sign in is redirected there, and back."""
    if refused.code == SIGN_IN_NEEDED:
        back = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        reading = request.method in ("GET", "HEAD")
        return redirect(f"/sign-in?next={quote(back, safe='')}" if reading and back != "/" else "/sign-in")
    if refused.code == PROJECT_NEEDED:
        return redirect("/projects")
    paragraphs = [refused.message.rstrip(".") + "."]
    if refused.status == 404:
        paragraphs = [messages.NO_PAGE]
    title = messages.TITLES.get(refused.status, messages.TITLES[500])
    answer = message(title, *paragraphs, status=refused.status, on="/")
    answer.headers.update(refused.headers)
    return answer




@cache
def _environment() -> jinja2.Environment:
    import jinja2  # heavy, and not needed until somebody opens a page

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tocsin", "web/templates"), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.ChainableUndefined,
    )
    environment.filters.update(
        moment=moment, ago=ago, left=left, lasting=lasting, public=_public, gravity=_gravity, grade=_grade,
        with_times=with_times,
    )
    environment.globals.update(READERS_ONLY_READ=READERS_ONLY_READ, now=_now)
    return environment


def _now() -> datetime:
    return datetime.now(UTC)


def _public(key: UUID, prefix: str) -> str:
    """`{{ id|public("SRV") }}`"""
    return ids.public(prefix, key)


class _Graded(Protocol):
    """An incident, wherever it is listed."""

    @property
    def type(self) -> str: ...

    @property
    def severity(self) -> str: ...


def _gravity(incident: _Graded) -> str:
    """The CSS class of an ongoing incident: `{{ incident|gravity }}`"""
    if incident.type == DRILL or incident.severity == "info":
        return "info"
    return "warn" if incident.severity == "warning" or incident.type in WARNINGS else "bad"


def _grade(incident: _Graded) -> str:
    """How bad it is, in a word: `{{ incident|grade }}`"""
    if incident.type == DRILL:
        return "Drill"
    return {"bad": "Critical", "warn": "Warning", "info": "Info"}[_gravity(incident)]


def _csrf(viewer: Viewer | Person | None) -> Markup:
    return Markup('<input type="hidden" name="csrf" value="{}">').format(viewer.csrf if viewer else "")


# ------------------------------------------------------------------------------------------------------------ times

_TIME = re.compile(r"\b(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)\b", re.ASCII)


def moment(value: datetime | None) -> Markup:
    """A time as an element: in UTC here, in the viewer's time zone by the script. A dash for None."""
    if value is None:
        return Markup("–")
    at = value.astimezone(UTC)
    return Markup('<time datetime="{}">{}</time>').format(_iso(at), f"{at:%d %b %Y, %H:%M:%S} UTC")


def ago(value: datetime | None) -> Markup:
    """How long ago (or how soon) a time is; the full time as a tooltip."""
    if value is None:
        return Markup("–")
    at, seconds = value.astimezone(UTC), (datetime.now(UTC) - value).total_seconds()
    words = f"{lasting(seconds)} ago" if seconds >= 1 else f"in {lasting(-seconds)}" if seconds < -1 else "just now"
    return Markup('<time datetime="{}" data-ago title="{}">{}</time>').format(
        _iso(at), f"{at:%d %b %Y, %H:%M:%S} UTC", words
    )


def with_times(text: str | None) -> Markup:
    """A text in which times are elements, as `moment` makes them: reasons name times in UTC (RFC 3339)."""
    return Markup("").join(map(_with_time, _TIME.split(text or "")))


def _with_time(part: str) -> Markup:
    try:
        return moment(datetime.fromisoformat(part)) if _TIME.fullmatch(part) else escape(part)
    except ValueError:  # the 31st of February: somebody else's text
        return escape(part)


def left(value: datetime) -> str:
    """The time left until then: `7 d`."""
    return lasting((value - datetime.now(UTC)).total_seconds())


def lasting(seconds: float | None) -> str:
    """A duration in its two largest units: `3 d 4 h`, `12 min 5 s`, `850 ms`."""
    if seconds is None:
        return "–"
    if seconds < 1:
        return f"{math.ceil(max(seconds, 0) * 1000)} ms"
    left = round(seconds)
    parts: list[str] = []
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")):
        count, left = divmod(left, size)
        if count or parts:
            parts.append(f"{count} {unit}")
    return " ".join(part for part in parts[:2] if not part.startswith("0 "))


def _iso(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
