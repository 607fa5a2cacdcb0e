"""The site as a whole: the routes of all pages, their dependencies, and how refusals are rendered."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

from litestar import Response
from litestar.di import Provide
from litestar.types import ControllerRouterHandler, Scope

from tocsin.domain import discovery
from tocsin.domain.errors import Refused
from tocsin.web import render, session
from tocsin.web.session import AnyRequest

DEPENDENCIES = {"viewer": Provide(session.viewer), "person": Provide(session.person)}
"""What a handler gets by naming it: a `Viewer`, or a `Person` if it does not need a project."""

PACKAGE = __name__.rpartition(".")[0]


def routes() -> Iterator[ControllerRouterHandler]:
    """The `routes` of every module in this folder and in `pages`."""
    for module in chain(discovery.modules(PACKAGE), discovery.modules(f"{PACKAGE}.pages")):
        if module.__name__ != __name__:
            yield from getattr(module, "routes", ())


def refusal(
    request: AnyRequest, error: Exception, judge: Callable[[Scope, BaseException], Refused]
) -> Response[Any] | None:
    """The refusal as a page if a page was requested, else None."""
    handler = request.scope.get("route_handler")
    module = getattr(getattr(handler, "fn", None), "__module__", "")
    reads_pages = "text/html" in request.headers.get("accept", "") and not request.url.path.startswith("/api/v1/")
    if module.startswith(f"{PACKAGE}.") or (not module and reads_pages):
        return render.refusal(request, judge(request.scope, error))
    return None
