"""The calls of pings, for the description of the API: they are answered in others' forms, which are described here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tocsin.api.examples import ERRORS

Paths = dict[str, dict[str, Any]]

KEY = "The key of a heartbeat's `ping_url`: a UUID, with or without hyphens."
SLUG = "The slug of one of the project's heartbeats."
ACTION = "`start`, `fail`, `log`, or an exit status from 0 (success) to 255."
PARAMETERS: dict[str, str] = {
    "rid": "A UUID that its sender has picked for this run, so that runs may overlap.",
    "duration": "How long it took, if its sender knows better: seconds, or such as `1m30s`.",
    "create": "`1`: create the heartbeat, with the defaults, if there is none of that slug.",
    "status": "`up` (the default); anything else is a failure.",
    "msg": "Kept as the ping's body.",
    "ping": "How long it took, in milliseconds.",
    "success": "`true` or `false`.",
    "error": "Kept as the ping's body.",
}
PING = """The protocol of Healthchecks, whose clients work with this address. Needs no token. The first 100,000 bytes of
a body are kept as text. Of more than 100 pings of a heartbeat in a minute, successes are counted and failures kept."""


def paths() -> Paths:
    both = {"key": f"{KEY} Or the project's ping key.", "slug": f"After a heartbeat's key: {ACTION} After the "
            f"project's: {SLUG}"}  # fmt: skip
    described = {
        "/ping/{key}": _pings("Report a success", "pings", {"key": KEY}, by_slug=False),
        "/ping/{key}/{slug}": _pings(
            "Report a success by slug; or a start, a failure, a note or an exit status", "pings_slug", both,
            by_slug=True,
        ),
        "/ping/{key}/{slug}/{action}": _pings(
            "Report a start, a failure, a note or an exit status by slug", "pings_slug_action",
            {"key": "The project's ping key.", "slug": SLUG, "action": ACTION}, by_slug=True,
        ),
    }
    taken = {"application/json": {"schema": {"type": "object"}, "examples": {"Taken": {"value": {"ok": True}}}}}
    unknown = {"ok": False, "msg": "Monitor not found or not active."}
    none = {"application/json": {"schema": {"type": "object"}, "examples": {"Unknown": {"value": unknown}}}}
    described["/api/push/{key}"] = {
        method: _operation(
            "Push as to Uptime Kuma", "For clients of its push monitors: with a heartbeat's key as their token.",
            f"pushes_{method}", {"key": KEY}, ["status", "msg", "ping"],
            {"200": {"description": "Taken", "content": taken}, "404": {"description": "Unknown", "content": none}},
        )
        for method in ("get", "post")
    }
    described["/api/v1/endpoints/{key}/external"] = {
        "post": _operation(
            "Push as to Gatus", "For clients of its external endpoints: with a heartbeat's key as theirs; or its slug, "
            "with the project's ping key as bearer token.", "external_post", {"key": KEY},
            ["success", "error", "duration"], {"200": _text("Taken", ""), **_refused(400, 401, 404)},
        )
    }  # fmt: skip
    return described


def _pings(summary: str, name: str, in_path: Mapping[str, str], *, by_slug: bool) -> dict[str, Any]:
    answers = {"200": _text("Taken", "OK"), **_refused(400, 404)}
    if by_slug:
        answers |= {"201": _text("Created, and taken", "Created"), **_refused(409)}
    in_query = ["rid", "duration", *(["create"] if by_slug else [])]
    return {
        method: _operation(summary, PING, f"{name}_{method}", in_path, in_query, answers) for method in ("get", "post")
    }


def _operation(
    summary: str, description: str, name: str, in_path: Mapping[str, str], in_query: Sequence[str],
    answers: Mapping[str, Any],
) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Error"}
    unavailable = {"application/json": {"schema": schema, "examples": {"Refused": {"value": ERRORS[503]}}}}
    return {
        "tags": ["pings"],
        "summary": summary,
        "description": description,
        "operationId": name,
        "parameters": [
            *(_parameter(*each) for each in in_path.items()),
            *({**_parameter(each, PARAMETERS[each]), "in": "query", "required": False} for each in in_query),
        ],
        "responses": {**answers, "503": {"description": "Try again in a moment", "content": unavailable}},
        "security": [],
    }


def _parameter(name: str, description: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "description": description, "schema": {"type": "string"}}


def _text(description: str, example: str) -> dict[str, Any]:
    content = {"schema": {"type": "string"}, "examples": {"Answer": {"value": example}}}
    return {"description": description, "content": {"text/plain": content}}


def _refused(*statuses: int) -> dict[str, Any]:
    texts = {
        400: ("The address or a parameter is malformed", "invalid url format"),
        401: ("There is no ping key as bearer token", "invalid Authorization header"),
        404: ("There is no such heartbeat", "not found"),
        409: ("Several heartbeats have that slug", "ambiguous slug"),
    }
    return {str(status): _text(*texts[status]) for status in statuses}
