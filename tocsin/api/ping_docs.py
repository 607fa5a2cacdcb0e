"""The calls of pings, for the description of the API: they are answered in others' forms, which are described here."""

from __future__ import annotations

from typing import Any

from tocsin.api.examples import ERRORS

Paths = dict[str, dict[str, Any]]

KEY = "The key of a heartbeat's `ping_url`: a UUID, with or without hyphens."
PARAMETERS: dict[str, str] = {
    "key": KEY,
    "action": "`start`, `fail`, `log`, or an exit status from 0 (success) to 255.",
    "ping_key": "The project's ping key.",
    "slug": "The slug of one of the project's heartbeats.",
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
SUMMARIES = {"": "Report a success", "/{action}": "Report a start, a failure, a note or an exit status"}


def paths() -> Paths:
    described: Paths = {}
    for suffix, summary in SUMMARIES.items():
        for base, more in (("/ping/{key}", ""), ("/ping/{ping_key}/{slug}", " by slug")):
            if base + suffix != "/ping/{key}/{action}":
                described[base + suffix] = _pings(base + suffix, summary + more, by_slug=bool(more))
    both = described.pop("/ping/{ping_key}/{slug}")
    described["/ping/{key}/{slug}"] = {
        method: {
            **each, "summary": "Report a success by slug, or a start, failure, note or exit status",
            "parameters": [_parameter("key", PARAMETERS["key"] + " Or the project's ping key."),
                           _parameter("slug", "After a heartbeat's key: " + PARAMETERS["action"] + " After the "
                                      "project's: " + PARAMETERS["slug"]), *each["parameters"][2:]],
        }
        for method, each in both.items()
    }  # fmt: skip
    taken = {"application/json": {"schema": {"type": "object"}, "examples": {"Taken": {"value": {"ok": True}}}}}
    unknown = {"ok": False, "msg": "Monitor not found or not active."}
    none = {"application/json": {"schema": {"type": "object"}, "examples": {"Unknown": {"value": unknown}}}}
    described["/api/push/{key}"] = {
        method: _operation(
            "Push as to Uptime Kuma", "For clients of its push monitors: with a heartbeat's key as their token.",
            f"pushes_{method}", ["key"], ["status", "msg", "ping"],
            {"200": {"description": "Taken", "content": taken}, "404": {"description": "Unknown", "content": none}},
        )
        for method in ("get", "post")
    }
    described["/api/v1/endpoints/{key}/external"] = {
        "post": _operation(
            "Push as to Gatus", "For clients of its external endpoints: with a heartbeat's key as theirs; or its slug, "
            "with the project's ping key as bearer token.", "external_post", ["key"], ["success", "error", "duration"],
            {"200": _text("Taken", ""), **_refused(400, 401, 404)},
        )
    }  # fmt: skip
    return described


def _pings(path: str, summary: str, *, by_slug: bool) -> dict[str, Any]:
    named = [name for name in ("key", "ping_key", "slug", "action") if f"{{{name}}}" in path]
    answers = {"200": _text("Taken", "OK"), **_refused(400, 404)}
    if by_slug:
        answers |= {"201": _text("Created, and taken", "Created"), **_refused(409)}
    name = "_".join(["pings", *(each for each in ("slug", "action") if each in named)])
    return {
        method: _operation(
            summary, PING, f"{name}_{method}", named, ["rid", "duration", *(["create"] if by_slug else [])], answers
        )
        for method in ("get", "post")
    }


def _operation(
    summary: str, description: str, name: str, in_path: list[str], in_query: list[str], answers: dict[str, Any]
) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Error"}
    unavailable = {"application/json": {"schema": schema, "examples": {"Refused": {"value": ERRORS[503]}}}}
    return {
        "tags": ["pings"],
        "summary": summary,
        "description": description,
        "operationId": name,
        "parameters": [
            *(_parameter(each, PARAMETERS[each]) for each in in_path),
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
