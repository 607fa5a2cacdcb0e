"""The small bell that browsers show beside a page's title."""

from __future__ import annotations

from litestar import Response, get

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
    """The bell. Browsers ask for it at the first of these addresses whatever a page says."""
    return Response(BELL, media_type="image/svg+xml", headers=A_DAY)


routes = [icon]
