"""The start page: redirects to the console if signed in, else says what Tocsin is."""

from __future__ import annotations

from litestar import Response, get

from tocsin.web.render import page
from tocsin.web.session import AnyRequest, redirect, signed_in


@get("/", include_in_schema=False)
async def landing(request: AnyRequest) -> Response[str]:
    if await signed_in(request):
        return redirect("/overview")
    return page("landing.html", None, title="Welcome")


routes = [landing]
