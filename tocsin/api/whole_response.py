"""A response as it is sent, in one write; and the identifier that every response bears."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from tocsin.api.request_head import Header
from tocsin.domain import requests

JSON = b"application/json"
REQUEST_ID = b"x-request-id"


def whole(
    status: int, content: bytes, headers: Mapping[str, str], request_id: str, *, defaults: Iterable[Header],
    close: bool, media_type: bytes = JSON,
) -> bytes:  # fmt: skip
    """Head and content. The `headers` of errors come from the service, never from a caller."""
    parts = [STATUS_LINE[status]]
    for name, value in defaults:
        parts += name, b": ", value, b"\r\n"
    for named, text in headers.items():
        parts.append(f"{named.lower()}: {text}\r\n".encode("latin-1"))
    if close:
        parts.append(b"connection: close\r\n")
    parts.append(
        b"x-request-id: %b\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n"
        % (request_id.encode("ascii"), media_type, len(content))
    )
    parts.append(content)
    return b"".join(parts)


def given_id(headers: Iterable[Header]) -> bytes | None:
    """The identifier that a caller gave its request: the first, if there are several."""
    return next((value for name, value in headers if name == REQUEST_ID), None)


def id_of(cycle: Any) -> str:
    """The identifier of the request that is answered in uvicorn's `cycle`; its response gets it, too."""
    known: str | None = getattr(cycle, "request_id", None)
    if known is None:
        cycle.request_id = known = requests.id_from(given_id(cycle.scope["headers"]))
        cycle.default_headers = [*cycle.default_headers, (REQUEST_ID, known.encode("ascii"))]
    return known
