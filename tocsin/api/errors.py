"""All error responses of the API are rendered here."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from typing import Any

import asyncpg
import msgspec
import structlog
from litestar import MediaType, Request, Response
from litestar.exceptions import HTTPException, InternalServerException, ValidationException
from litestar.handlers import BaseRouteHandler
from litestar.params import QueryParameter
from litestar.types import Scope, Send
from litestar.typing import FieldDefinition

from tocsin.api.trail import UNKNOWN
from tocsin.api.validation_messages import body_needed, choices, problem
from tocsin.domain.errors import Detail, Refused, invalid, too_large
from tocsin.storage.postgres.database import UNAVAILABLE
from tocsin.storage.postgres.primary import WAITS, WaitsForStandby
from tocsin.storage.postgres.session import OutcomeUnknown

log = structlog.get_logger()

LEFT = "client disconnected prematurely"
"""The framework's text, in an exception without its own type, for a client that disconnected while sending."""
READS = ("GET", "HEAD")
"""Methods that change nothing, whatever became of their transaction; but for pings, and what else has its secret in its
path.
"""
RETRY_AFTER = 2
"""Seconds after which a caller may retry while the database is unavailable."""

_BY_STATUS = {
    400: ("invalid_request", "The request cannot be read: {}"),
    401: ("unauthorized", "Invalid or missing authentication token"),
    404: ("not_found", "There is nothing at this address; see /api/docs"),
    405: ("method_not_allowed", "This address does not allow that method; the Allow header lists those that it allows"),
    415: ("invalid_request", "The body must be JSON"),
    429: ("too_many_requests", "Too many requests; try again later"),
}
_UNEXPECTED = "Something went wrong here; the error was logged, and trying again may help"


def refused(error: BaseException, scope: Scope | None = None) -> Refused:
    """The error response for `error`."""
    match error:
        case Refused():
            return error
        case asyncpg.DiskFullError():
            return _unavailable("The disk of the database is full")
        case asyncpg.TransactionRollbackError():
            return _unavailable("Somebody else changed the same at this moment")
        case OutcomeUnknown() if not _only_reads(scope):
            return _unknown(error)
        case WaitsForStandby():
            return _unavailable(f"The database {WAITS}")
        case _ if isinstance(error, UNAVAILABLE):
            return _unavailable("The database cannot be reached at present")
        case ValidationException():
            return _validation(error, scope)
        case InternalServerException() if error.detail == LEFT:
            return Refused(400, "invalid_request", "The client disconnected before the body was complete")
        case HTTPException() if error.status_code == 413:
            return too_large()
        case HTTPException() if error.status_code in _BY_STATUS:
            code, message = _BY_STATUS[error.status_code]
            return Refused(error.status_code, code, message.format(error.detail), headers=_with_head(error.headers))
    return Refused(500, "internal_error", _UNEXPECTED)


def refused_request(scope: Scope, error: BaseException) -> Refused:
    """The error response to this request; an unexpected error is logged first."""
    refusal = refused(error, scope)
    if refusal.status == 500:
        _record(scope, error)
    return refusal


def answer(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    """The error response, through Litestar."""
    refusal = refused_request(request.scope, error)
    return Response(body(refusal), status_code=refusal.status, headers=refusal.headers, media_type=MediaType.JSON)


async def send(send: Send, refusal: Refused) -> None:
    """The error response, without Litestar."""
    content = msgspec.json.encode(body(refusal))
    raw = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(content))]
    raw += [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in refusal.headers.items()]
    await send({"type": "http.response.start", "status": refusal.status, "headers": raw})
    await send({"type": "http.response.body", "body": content, "more_body": False})


def body(refusal: Refused) -> object:
    """The error's body: the common shape, or the one that the specification prints."""
    if refusal.body is not None:
        return refusal.body
    details = [{"field": detail.field, "message": detail.message} for detail in refusal.details]
    return {"error": refusal.code, "message": refusal.message, "details": details}


def _record(scope: Scope, error: BaseException) -> None:
    """Log an unexpected error by its type and place, without its text: a database's may quote what a caller sent."""
    places = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)]
    path = scope.get("path_template") or UNKNOWN
    log.error("request failed", method=scope.get("method"), path=path, error=type(error).__name__, at=places[-6:])


def _only_reads(scope: Scope | None) -> bool:
    if scope is None or scope.get("method") not in READS:
        return False
    handler = scope.get("route_handler")
    return not (isinstance(handler, BaseRouteHandler) and "hot_below" in handler.opt)


def _unavailable(message: str) -> Refused:
    return Refused(
        503, "unavailable", f"{message}; try again in a moment", headers={"Retry-After": str(RETRY_AFTER)}
    )


def _unknown(error: OutcomeUnknown) -> Refused:
    message = f"Nobody knows whether this was done: {error}. Look before you repeat what must not happen twice"
    return Refused(503, "unavailable", message, headers={"Retry-After": str(RETRY_AFTER)})


def _with_head(headers: Mapping[str, str] | None) -> dict[str, str]:
    """Add HEAD to GET (RFC 9110, 9.3.2), which the framework does not."""
    return {
        name: ", ".join(sorted({*value.split(", "), "HEAD"})) if name.lower() == "allow" and "GET" in value else value
        for name, value in (headers or {}).items()
    }


def _public_name(parameter: FieldDefinition) -> str:
    """The name by which callers give a parameter."""
    given = parameter.kwarg_definition
    return given.name if isinstance(given, QueryParameter) and given.name else parameter.name


def _validation(error: ValidationException, scope: Scope | None) -> Refused:
    """Parameters that Litestar rejected; a missing body is one of them."""
    found = [each for each in error.extra or [] if isinstance(each, dict)]
    if any(each.get("source") == "body" or each.get("key") == "data" for each in found):
        return body_needed()
    handler = scope.get("route_handler") if scope else None
    wanted = handler.parsed_fn_signature.parameters if isinstance(handler, BaseRouteHandler) else {}
    details = []
    for each in found:
        name = str(each.get("key", ""))
        known = choices(wanted[name].annotation) if name in wanted else []
        name = _public_name(wanted[name]) if name in wanted else name
        details.append(Detail(name, problem(str(each.get("message", "")), known)))
    named = "; ".join(f"{detail.field} {detail.message}" for detail in details)
    return invalid(named or "The parameters cannot be accepted", *details)
