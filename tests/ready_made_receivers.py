"""Far ends of ready-made webhooks, each strict after its vendor's documentation: what the vendor refuses, and what it
ignores without being asked to, is refused.

Lengths are counted in UTF-16 where a vendor does not say what a character is: the strictest way to count them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.receivers import Answer, Request

KEY = "0123456789abcdef0123456789abcdef"
"""The key of whatever wants one."""
TYPES = {"text": str, "number": int, "list": list, "object": dict, "truth": bool}


class Wrong(Exception):
    """What a vendor would refuse."""


def need(holds: object, what: str) -> None:
    if not holds:
        raise Wrong(what)


def length(value: str) -> int:
    return len(value.encode("utf-16-le")) // 2


def fields(value: Any, where: str, needed: Mapping[str, str], optional: Mapping[str, str] | None = None) -> Any:
    """An object that has those fields, of those types, and no others."""
    need(isinstance(value, dict), f"{where} is no object")
    known = {**needed, **(optional or {})}
    need(value.keys() <= known.keys(), f"{where} has {value.keys() - known.keys()}")
    need(needed.keys() <= value.keys(), f"{where} lacks {needed.keys() - value.keys()}")
    for name, each in value.items():
        kind = TYPES[known[name]]
        need(isinstance(each, kind) and (kind is bool or not isinstance(each, bool)), f"{where}.{name}: {each!r}")
    return value


def text(value: str, most: int, where: str, least: int = 1) -> None:
    need(least <= length(value) <= most, f"{where} has {length(value)} characters")


def url(value: str, where: str) -> None:
    parts = urlsplit(value)
    need(parts.scheme in ("http", "https") and parts.netloc and " " not in value, f"{where}: {value!r}")


def moment(value: str, where: str) -> None:
    need("T" in value and datetime.fromisoformat(value).tzinfo is not None, f"{where}: {value!r}")


def sent(request: Request, path: str) -> Any:
    """The JSON of a POST to that path."""
    need(request.method == "POST", request.method)
    need(re.fullmatch(path, urlsplit(request.path).path), request.path)
    need(request.headers["content-type"].startswith("application/json"), request.headers["content-type"])
    return json.loads(request.body)


def discord(request: Request) -> Answer:
    """https://docs.discord.com/developers/resources/webhook#execute-webhook and …/message#embed-object-embed-limits"""
    given = fields(sent(request, r"/api/webhooks/\d+/[\w-]+"), "body", {}, {
        "content": "text", "username": "text", "avatar_url": "text", "tts": "truth", "embeds": "list",
        "allowed_mentions": "object",
    })  # fmt: skip
    need(given.get("content") or given.get("embeds"), "neither content nor embeds")
    text(given.get("content", "x"), 2000, "content")
    text(given.get("username", "x"), 80, "username")
    need(not re.search("discord|clyde", given.get("username", ""), re.IGNORECASE), "username")
    fields(given.get("allowed_mentions", {}), "mentions", {}, {"parse": "list", "roles": "list", "users": "list"})
    embeds, total = given.get("embeds", []), 0
    need(len(embeds) <= 10, "embeds")
    for each in embeds:
        fields(each, "embed", {}, {
            "title": "text", "description": "text", "url": "text", "timestamp": "text", "color": "number",
            "footer": "object",
        })  # fmt: skip
        text(each.get("title", "x"), 256, "title")
        text(each.get("description", "x"), 4096, "description")
        url(each.get("url", "https://x"), "url")
        moment(each.get("timestamp", "2024-01-01T00:00:00Z"), "timestamp")
        need(0 <= each.get("color", 0) <= 0xFFFFFF, "color")
        footer = fields(each.get("footer", {"text": "x"}), "footer", {"text": "text"})["text"]
        text(footer, 2048, "footer")
        total += length(each.get("title", "")) + length(each.get("description", "")) + length(footer)
    need(total <= 6000, f"{total} characters of embeds")
    need(parse_qs(urlsplit(request.path).query) == {"wait": ["true"]}, "without wait, no error for what is not saved")
    return Answer(200, {"content-type": "application/json"}, b'{"id": "1"}')


def teams(request: Request) -> Answer:
    """https://learn.microsoft.com/en-us/connectors/teams/#microsoft-teams-webhook, https://adaptivecards.io/explorer/"""
    need(len(request.body) <= 28 * 1024, f"{len(request.body)} bytes")
    given = fields(sent(request, "/workflows/.+"), "body", {"type": "text", "attachments": "list"})
    need(given["type"] == "message", given["type"])
    [attachment] = given["attachments"]
    need(attachment.keys() == {"contentType", "contentUrl", "content"}, "attachment")
    need(attachment["contentType"] == "application/vnd.microsoft.card.adaptive", "contentType")
    need(attachment["contentUrl"] is None, "contentUrl")
    card = fields(attachment["content"], "card", {"type": "text", "version": "text", "body": "list"}, {
        "$schema": "text", "actions": "list",
    })  # fmt: skip
    need(card["type"] == "AdaptiveCard" and card["version"] in ("1.0", "1.1", "1.2", "1.3", "1.4", "1.5"), "card")
    for each in card["body"]:
        if each["type"] == "FactSet":
            fields(each, "facts", {"type": "text", "facts": "list"})
            for fact in each["facts"]:
                fields(fact, "fact", {"title": "text", "value": "text"})
                need(fact["value"], "an empty fact")
            continue
        need(each["type"] == "TextBlock", each["type"])
        fields(each, "block", {"type": "text", "text": "text"}, {
            "weight": "text", "size": "text", "wrap": "truth", "color": "text",
        })  # fmt: skip
        colors = ("Default", "Dark", "Light", "Accent", "Good", "Warning", "Attention")
        need(each["text"] and each.get("color", "Default") in colors, f"block: {each}")
        need(each.get("weight", "Default") in ("Default", "Lighter", "Bolder"), "weight")
        need(each.get("size", "Default") in ("Default", "Small", "Medium", "Large", "ExtraLarge"), "size")
    for each in card.get("actions", []):
        fields(each, "action", {"type": "text", "title": "text", "url": "text"})
        need(each["type"] == "Action.OpenUrl", each["type"])
        url(each["url"], "action")
    return Answer(202, body=b"")


def google_chat(request: Request) -> Answer:
    """https://developers.google.com/workspace/chat/api/reference/rest/v1/spaces.messages/create"""
    given = fields(sent(request, "/v1/spaces/[^/]+/messages"), "body", {"text": "text"})
    need({"key", "token"} <= parse_qs(urlsplit(request.path).query).keys(), "key and token")
    text(given["text"], 4096 * 2, "text")
    need(len(given["text"]) <= 4096 and len(request.body) <= 32_000, "the size")
    need("<" not in given["text"], "mentions and links that nobody meant")
    return Answer(200, {"content-type": "application/json"}, b'{"name": "spaces/AAA/messages/1"}')


def mattermost(request: Request) -> Answer:
    """https://developers.mattermost.com/integrate/webhooks/incoming/, with its section on Slack's data format"""
    given = fields(sent(request, r"/hooks/[\w-]+"), "body", {"text": "text"}, {
        "channel": "text", "username": "text", "icon_url": "text", "icon_emoji": "text", "type": "text",
    })  # fmt: skip
    text(given["text"], 16_383, "text")
    need(not re.search("@(all|channel|here)", given["text"]), "mentions that nobody meant")
    need("<" not in given["text"], "mentions and links as Slack has them, which are translated")
    return Answer(200, {"content-type": "text/plain"}, b"ok")


def rocket_chat(request: Request) -> Answer:
    """https://docs.rocket.chat/docs/integrations"""
    given = fields(sent(request, r"/hooks/[\w/-]+"), "body", {"text": "text"}, {"channel": "text", "alias": "text"})
    text(given["text"], 5_000, "text")
    need(not re.search("@(all|channel|here)", given["text"]), "mentions that nobody meant")
    return Answer(200, {"content-type": "application/json"}, b'{"success": true}')


def ntfy(request: Request) -> Answer:
    """https://docs.ntfy.sh/publish/#publish-as-json and …/#limitations

    Of a body it reads twice as much as a message may have: `transformBodyJSON` in
    https://github.com/binwiederhier/ntfy/blob/main/server/server.go
    """
    need(len(request.body) <= 2 * 4096, f"{len(request.body)} bytes")
    given = fields(sent(request, "/"), "body", {"topic": "text"}, {
        "message": "text", "title": "text", "tags": "list", "priority": "number", "click": "text", "actions": "list",
        "attach": "text", "markdown": "truth", "icon": "text",
    })  # fmt: skip
    need(re.fullmatch("[-_A-Za-z0-9]{1,64}", given["topic"]), "topic")
    need(len(given.get("message", "").encode()) <= 4096, "the message would become a file")
    need(given.get("priority", 3) in range(1, 6), "priority")
    need(all(isinstance(each, str) for each in given.get("tags", [])), "tags")
    url(given.get("click", "https://x"), "click")
    answer = {"id": "x", "time": 1, "event": "message", "topic": given["topic"], "message": given.get("message")}
    return Answer(200, {"content-type": "application/json"}, json.dumps(answer).encode())


def gotify(request: Request) -> Answer:
    """https://gotify.net/docs/pushmsg, https://gotify.net/docs/msgextras; the header: https://gotify.net/api-docs"""
    need(request.headers.get("x-gotify-key") == KEY, "the token")
    given = fields(sent(request, "/message"), "body", {"message": "text"}, {
        "title": "text", "priority": "number", "extras": "object",
    })  # fmt: skip
    need(given["message"] and given.get("priority", 0) in range(11), "priority")
    need(all("::" in name for name in given.get("extras", {})), "extras")
    return Answer(200, {"content-type": "application/json"}, b'{"id": 1}')


def pagerduty(request: Request) -> Answer:
    """https://developer.pagerduty.com/docs/send-alert-event and …/events-api-v2-overview (sizes, PD-CEF)"""
    given = fields(sent(request, "/v2/enqueue"), "body", {"routing_key": "text", "event_action": "text"}, {
        "dedup_key": "text", "payload": "object", "client": "text", "client_url": "text", "links": "list",
        "images": "list",
    })  # fmt: skip
    need(given["routing_key"] == KEY and len(request.body) <= 512 * 1024, "routing_key")
    need(given["event_action"] in ("trigger", "acknowledge", "resolve"), "event_action")
    need(given["event_action"] == "trigger" or given.get("dedup_key"), "dedup_key")
    text(given.get("dedup_key", "x"), 255, "dedup_key")
    need(given["event_action"] != "trigger" or "payload" in given, "payload")
    if "payload" in given:
        inner = fields(given["payload"], "payload", {"summary": "text", "source": "text", "severity": "text"}, {
            "timestamp": "text", "component": "text", "group": "text", "class": "text", "custom_details": "object",
        })  # fmt: skip
        text(inner["summary"], 1024 * 2, "summary")
        need(len(inner["summary"]) <= 1024 and inner["source"], "summary")
        need(inner["severity"] in ("critical", "error", "warning", "info"), inner["severity"])
        moment(inner.get("timestamp", "2024-01-01T00:00:00Z"), "timestamp")
    url(given.get("client_url", "https://x"), "client_url")
    answer = {"status": "success", "message": "Event processed", "dedup_key": given.get("dedup_key", "new")}
    return Answer(202, {"content-type": "application/json"}, json.dumps(answer).encode())


def opsgenie(request: Request) -> Answer:
    """https://docs.opsgenie.com/docs/alert-api"""
    need(request.headers.get("authorization") == f"GenieKey {KEY}", "the key")
    given = sent(request, "/v2/alerts(/[^/]+/(close|acknowledge))?")
    if urlsplit(request.path).path == "/v2/alerts":
        fields(given, "body", {"message": "text"}, {
            "alias": "text", "description": "text", "entity": "text", "source": "text", "priority": "text",
            "note": "text", "user": "text",
        })  # fmt: skip
        text(given["message"], 130 * 2, "message")
        need(len(given["message"]) <= 130, "message")
        for name, most in {"alias": 512, "description": 15_000, "entity": 512, "source": 100}.items():
            text(given.get(name, "x"), most, name)
        need(given.get("priority", "P3") in ("P1", "P2", "P3", "P4", "P5"), "priority")
    else:
        need(parse_qs(urlsplit(request.path).query) == {"identifierType": ["alias"]}, "identifierType")
        fields(given, "body", {}, {"user": "text", "source": "text", "note": "text"})
        text(given.get("note", "x"), 25_000, "note")
    return Answer(202, {"content-type": "application/json"}, b'{"result": "Request will be processed"}')


PATHS = {
    "discord": "/api/webhooks/1234567890/t0ken-of_it?wait=true",
    "teams": "/workflows/0123/triggers/manual/paths/invoke?sig=x",
    "google_chat": "/v1/spaces/AAA/messages?key=k&token=t", "mattermost": "/hooks/0123abc", "ntfy": "/",
    "rocket_chat": "/hooks/0123/abc", "gotify": "/message",
}  # fmt: skip
"""Where each is told, unless its address is the same for everybody."""


def refusing(judge: Callable[[Request], Answer], mistakes: list[str]) -> Callable[[Request], Answer]:
    """The judge, which answers 400 and notes what is wrong."""

    def judged(request: Request) -> Answer:
        try:
            return judge(request)
        except (Wrong, ValueError, KeyError, TypeError) as error:
            mistakes.append(f"{type(error).__name__}: {error}")
            return Answer(400, body=str(error).encode())

    return judged
