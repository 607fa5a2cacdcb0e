"""The API described: OpenAPI 3.1 with the specification's examples, and a page to try it."""

from __future__ import annotations

from typing import Any

from litestar import Request
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import OpenAPIRenderPlugin

from tocsin import __version__


class Page(OpenAPIRenderPlugin):
    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        return b"to come"


def config() -> OpenAPIConfig:
    return OpenAPIConfig(title="Tocsin", version=__version__, path="/api/docs", render_plugins=[Page(path="/")])
