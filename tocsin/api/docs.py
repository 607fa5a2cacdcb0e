"""The API described: OpenAPI 3.1 with every example, and a page to try it out that needs no other host."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources
from inspect import cleandoc
from typing import Any

import msgspec
from litestar import Litestar, Request, Response, get
from litestar.exceptions import NotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import OpenAPIConfig

from tocsin import __version__
from tocsin.api import examples, ping_docs, source_examples, template_docs
from tocsin.api.examples import ERRORS, PAYLOAD, Operation
from tocsin.domain.errors import TOO_LARGE
from tocsin.integrations import base

ABOUT = """Tocsin monitors servers and websites, and never loses a notification.

Send a project's token as `Authorization: Bearer TOKEN` (the word `Bearer` may be left out). Calls about users and their
projects need a user's token instead, which also acts on the user's current project; probes have tokens of their own,
which open nothing else. Errors have one shape: `error` is a
code, `message` says what is wrong and what to do, `details` names the fields. Every response has an `X-Request-Id`: the
caller's own, if it sent one of up to 128 letters, digits and `. _ : / + = -`. Logs and deliveries name it."""

STATUSES = {
    400: "The body is not JSON, or lacks its root object",
    401: "The token is missing or invalid",
    403: "The token may not do this",
    404: "It does not exist, or belongs to another project",
    413: TOO_LARGE,
    422: "A value cannot be accepted, or the state of the object forbids it",
    429: "Too many requests; `Retry-After` says when to retry",
    503: "The database is temporarily unavailable; `Retry-After` says when to retry",
}
REQUESTS = {**examples.REQUESTS, **source_examples.REQUESTS}
ANSWERS = {**examples.ANSWERS, **source_examples.ANSWERS}
CODE = ("POST", "/api/v1/integrations/sms/send_verification_code")
TRY = ("POST", "/api/v1/network_monitors/try")
THROTTLED = {("POST", "/api/v1/users"), ("POST", "/api/v1/users/sign_in"), TRY, CODE}
REFUSAL = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}
SMS_REFUSAL = {
    "anyOf": [
        {
            "type": "object",
            "properties": {
                "success": {"const": False}, "error": {"type": "string"}, "message": {"type": "string"},
            },
            "required": ["success", "error", "message"],
        },
        {"$ref": "#/components/schemas/Error"},
    ]
}  # fmt: skip
"""What the specification prints for SMS, in addition to the usual."""
EVENT_REFUSAL = {
    "schema": {"anyOf": [
        {
            "type": "object",
            "properties": {
                "status": {"const": "invalid event"}, "message": {"type": "string"},
                "errors": {"type": "array", "items": {"type": "string"}},
            },
            "required": ["status", "message", "errors"],
        },
        {"$ref": "#/components/schemas/Error"},
    ]},
    "examples": {"Refused": {"value": {
        "status": "invalid event", "message": "Event object is invalid",
        "errors": ["'payload.summary' is missing or blank"],
    }}},
}  # fmt: skip
"""What PagerDuty's Events API answers."""
ONE_OR_MANY = [{"required": ["incident"]}, {"required": ["incidents"]}]

WEBHOOK: dict[str, Any] = {
    "summary": "What a webhook receives when an incident opens and when it is resolved",
    "description": "And the opening again when its snooze is over and it is still ongoing (the delivery's `reminder`). "
    "With the headers of Standard Webhooks: `webhook-id` is the same for every attempt of one delivery, and "
    "`webhook-signature` is made with the secret that creation returned in `Tocsin-Webhook-Secret`. `Tocsin-Incident` "
    "and `Tocsin-Severity` (`critical`, `warning` or `info`) tell of the incident. Method, headers and body may be "
    "others: the schema `WebhookSettings` describes the settings, `POST /api/v1/integrations/preview` the result.",
    "requestBody": {
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {
                        **{name: {"type": "string"} for name in PAYLOAD},
                        "incident_status": {"enum": ["ongoing", "resolved"]},
                        "incident_duration": {
                            "type": ["integer", "null"], "description": "Whole seconds; null while it is ongoing."
                        },
                    },
                    "required": [*PAYLOAD],
                    "additionalProperties": False,
                },
                "examples": {"Began": {"value": PAYLOAD}},
            }
        }
    },
    "responses": {"2XX": {"description": "Received; anything else is retried"}},
}

PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
FILES = {"docs.html": "text/html", "docs.js": "text/javascript", "docs.css": "text/css"}


def config() -> OpenAPIConfig:
    return OpenAPIConfig(
        title="Tocsin", version=__version__, description=ABOUT, operation_id_creator=lambda handler, *_: _name(handler)
    )


def describe(app: Litestar) -> bytes:
    """The description of an application's API, as JSON: the framework's, completed."""
    document = app.openapi_schema.to_schema()
    for (method, path), handler in _operations(app).items():
        _complete(document["paths"][path][method.lower()], (method, path), handler)
    document["paths"].update(ping_docs.paths())
    schemas = document["components"]["schemas"]
    for name in ("OpenIncidents", "ResolveIncidents"):
        if name in schemas:
            schemas[name]["oneOf"] = ONE_OR_MANY
    schemas["Error"] = {
        "type": "object",
        "properties": {
            "error": {"type": "string"},
            "message": {"type": "string"},
            "details": {"type": "array", "items": {"$ref": "#/components/schemas/Detail"}},
        },
        "required": ["error", "message", "details"],
    }
    document["components"]["securitySchemes"] = {
        "token": {"type": "http", "scheme": "bearer", "description": "A project's token, or a user's."}
    }
    document["webhooks"] = {"incident": {"post": WEBHOOK}}
    schemas["WebhookSettings"] = template_docs.schema()
    preview = document["paths"]["/api/v1/integrations/preview"]["post"]
    preview["description"] = f"{preview['description']}\n\n{template_docs.text()}"
    del document["servers"]
    text = msgspec.json.encode(document).decode()
    # The framework's names of generic shapes contain a module; its `oneOf` would refuse 5 as both integer and number.
    text = re.sub(r"Listed_tocsin\.api\.\w+\.(\w+)_", r"Listed\1", text)
    return re.sub(r'"oneOf":\[\{(?!"required")', r'"anyOf":[{', text).encode()


def _operations(app: Litestar) -> dict[Operation, HTTPRouteHandler]:
    return {
        (method, re.sub(r"\{(\w+):\w+\}", r"{\1}", route.path)): handler
        for route in app.routes
        for handler in getattr(route, "route_handlers", ())
        if handler.resolve_include_in_schema()
        for method in handler.http_methods
        if method != "OPTIONS"
    }


def _name(handler: HTTPRouteHandler) -> str:
    return f"{handler.fn.__module__.rpartition('.')[2]}_{handler.fn.__name__.rstrip('_')}"


def _complete(described: dict[str, Any], operation: Operation, handler: HTTPRouteHandler) -> None:
    path = operation[1]
    summary, _, rest = cleandoc(handler.fn.__doc__ or "").partition("\n\n")
    described["summary"] = handler.summary or summary.rstrip(".")
    described["description"] = cleandoc(handler.fn.__doc__ or "") if handler.summary else rest
    described["tags"] = [path.removeprefix("/api/v1/").strip("/").split("/")[0].replace("_", " ")]
    described.pop("deprecated", None)
    for parameter in described.get("parameters", ()):
        parameter.pop("deprecated", None)
    public = handler.security == [] or not path.startswith(("/api/v1/", "/probe/v1/"))
    described["security"] = [] if public else [{"token": []}]
    if "takes" in handler.opt:  # read by the handler itself
        described["requestBody"] = {"required": True, "content": {handler.opt["takes"]: {"schema": {}}}}
        described["tags"] = ["sources"]
    answers = described["responses"]
    answers.pop("400", None)
    for status in _errors(operation, described, public=public):
        answers[str(status)] = _error(status)
    if "enqueue" in path:  # as there
        for status in {"400", "413"} & answers.keys():
            answers[status]["content"]["application/json"] = EVENT_REFUSAL
    for status, named in ANSWERS.get(operation, {}).items():
        if str(status) not in answers:
            answers[str(status)] = {**answers["201"], "description": "It was there before"}
        _exemplify(answers[str(status)], named)
    if operation == ("DELETE", "/api/v1/integrations/{uuid}"):
        answers["422"]["content"]["application/json"]["schema"] = REFUSAL
    if operation in (CODE, ("POST", "/api/v1/integrations")):
        for status in {"403", "422", "429", "503"} & answers.keys():
            answers[status]["content"]["application/json"]["schema"] = SMS_REFUSAL
    if "requestBody" in described:
        _exemplify(described["requestBody"], REQUESTS.get(operation, {}))


def _errors(operation: Operation, described: dict[str, Any], *, public: bool) -> list[int]:
    """The errors that a call can return."""
    method, path = operation
    body, changes = "requestBody" in described, method != "GET"
    possible = {
        400: body,
        401: not public or path.endswith("sign_in") or path.startswith("/in"),
        403: changes and (not public or path == "/api/v1/users"),
        404: "{" in path,
        413: body,
        422: body or not public,
        429: operation in THROTTLED,
        503: path != "/health/live",
    }
    return [status for status, applies in possible.items() if applies]


def _error(status: int) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Error"}
    return {
        "description": STATUSES[status],
        "content": {"application/json": {"schema": schema, "examples": {"Refused": {"value": ERRORS[status]}}}},
    }


def _exemplify(described: dict[str, Any], named: dict[str, Any]) -> None:
    known = {name: {"value": value} for name, value in named.items() if _available(value)}
    if known:
        [content] = described["content"].values()
        content["examples"] = known


def _available(value: Any) -> bool:
    """Whether an example is of an existing type of integration."""
    shown = value.get("integration", value) if isinstance(value, dict) else {}
    kind = str(shown.get("type", ""))
    return not kind.startswith("Integrations::") or kind in base.types()


@get("/api/v1/openapi.json", include_in_schema=False, sync_to_thread=True)
def openapi(request: Request[Any, Any, Any]) -> Response[bytes]:
    """The description itself."""
    return Response(request.app.state.description(), media_type="application/json")


@cache
def _file(name: str) -> bytes:
    return resources.files("tocsin.api").joinpath(name).read_bytes()


@get(["/api/docs", "/api/docs/{name:str}"], include_in_schema=False, sync_to_thread=False)
def page(name: str = "docs.html") -> Response[bytes]:
    """The page to try it out, and its files."""
    if name not in FILES:
        raise NotFoundException
    return Response(_file(name), media_type=FILES[name], headers=PAGE_HEADERS)


routes = [openapi, page]
