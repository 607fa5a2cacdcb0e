"""Static files of the pages: the style sheet, the script and the icon."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import resources

from litestar import Response, get

_static = resources.files("tocsin").joinpath("web/static")

BELL = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24">
<rect width="24" height="24" rx="5" fill="#b45309"/>
<g fill="#fff">
<path d="M12 4.5a4.7 4.7 0 0 0-4.7 4.7v3.2L6 15.2a.7.7 0 0 0 .6 1.1h10.8a.7.7 0 0 0 .6-1.1
 l-1.3-2.8V9.2A4.7 4.7 0 0 0 12 4.5Z"/>
<path d="M10.2 17.6a1.9 1.9 0 0 0 3.6 0Z"/>
</g>
</svg>
"""
A_DAY = {"Cache-Control": "public, max-age=86400", "X-Content-Type-Options": "nosniff"}


@get(["/favicon.ico", "/favicon.svg"], include_in_schema=False, sync_to_thread=False)
def icon() -> Response[str]:
    """The bell. Browsers request the first of these addresses whatever a page says."""
    return Response(BELL, media_type="image/svg+xml", headers=A_DAY)


@get("/static/tocsin.css", include_in_schema=False)
async def stylesheet() -> Response[bytes]:
    return _asset("tocsin.css", "text/css")


@get("/static/console.js", include_in_schema=False)
async def script() -> Response[bytes]:
    return _asset("console.js", "text/javascript")


@cache
def _content(name: str) -> bytes:
    return _static.joinpath(name).read_bytes()


@get("/static/notification_plan.css", include_in_schema=False)
async def plan_stylesheet() -> Response[bytes]:
    return _asset("notification_plan.css", "text/css")


@get("/static/notification_plan.js", include_in_schema=False)
async def plan_script() -> Response[bytes]:
    return _asset("notification_plan.js", "text/javascript")


@get("/static/monitor_form.css", include_in_schema=False)
async def form_stylesheet() -> Response[bytes]:
    return _asset("monitor_form.css", "text/css")


@get("/static/places.css", include_in_schema=False)
async def places_stylesheet() -> Response[bytes]:
    return _asset("places.css", "text/css")


def _asset(name: str, kind: str) -> Response[bytes]:
    headers = {"Cache-Control": "no-cache", "ETag": f'"{hashlib.sha256(_content(name)).hexdigest()[:16]}"'}
    return Response(_content(name), media_type=kind, headers={**headers, "X-Content-Type-Options": "nosniff"})


routes = [icon, stylesheet, script, plan_stylesheet, plan_script, form_stylesheet, places_stylesheet]
