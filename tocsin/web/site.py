"""The site as a whole: the routes of all pages and of the files beside this one, what they get, how they refuse."""

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
"""What a handler gets by naming it: a `Viewer`, or a `Person` where being in a project does not matter."""

PACKAGE = __name__.rpartition(".")[0]


def routes() -> Iterator[ControllerRouterHandler]:
    """The `routes` of every file in this folder, and in that of the pages, that has some."""
    for module in chain(discovery.modules(PACKAGE), discovery.modules(f"{PACKAGE}.pages")):
        if module.__name__ != __name__:
            yield from getattr(module, "routes", ())


def refusal(
    request: AnyRequest, error: Exception, judge: Callable[[Scope, BaseException], Refused]
) -> Response[Any] | None:
    """The refusal as a page where a page was asked for; None where it was not."""
    handler = request.scope.get("route_handler")
    module = getattr(getattr(handler, "fn", None), "__module__", "")
    reads_pages = "text/html" in request.headers.get("accept", "") and not request.url.path.startswith("/api/v1/")
    if module.startswith(f"{PACKAGE}.") or (not module and reads_pages):
        return render.refusal(request, judge(request.scope, error))
    return None
